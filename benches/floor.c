// The floor: what "run a command in a fresh group with CPU, memory and pids limits, wait, remove the group" costs
// when nothing else is done. The same system calls as rcon's, no checks, no words, no options.
//
//   floor v1 cpu=DIR memory=DIR pids=DIR -- CMD...     one group in each hierarchy
//   floor v2 DIR -- CMD...                             one group in the unified hierarchy
//   floor run -- CMD...                                no group: a process, a wait
//   floor kept v1|v2|run ...                           the same, done by a child: what a second process costs
//   floor kill v1|v2 DIR N                             prints the us that killing a group of N sleepers takes
//   floor sleepers N x                                 leaves N sleepers, prints the monotonic us and ends
//
// Built by benches/overhead.rs with the C compiler that links Rust programs too.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define INTO_CGROUP 0x200000000ULL

extern char **environ;

struct group {
    const char *controller;
    int parent, dir, entry;
};

static struct group groups[3];
static int count;
static char name[32];
static char **command;
static char stack[32768] __attribute__((aligned(16)));

static void die(const char *what) {
    perror(what);
    _exit(125);
}

static void put(int dir, const char *file, const char *value) {
    int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, value, strlen(value)) < 0) die(file);
    close(fd);
}

static void get(int dir, const char *file) {
    char text[4096];
    int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (read(fd, text, sizeof text) < 0) die(file);
    close(fd);
}

static int child(void *unused) {
    (void)unused;
    for (int i = 0; i < count; i++)
        if (groups[i].entry >= 0 && write(groups[i].entry, "0", 1) != 1) _exit(125);
    execve(command[0], command, environ);
    _exit(127);
}

static void make(struct group *g, const char *parent) {
    g->parent = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (g->parent < 0) die(parent);
    if (mkdirat(g->parent, name, 0755)) die("mkdir");
    g->dir = openat(g->parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (g->dir < 0) die("open");
    g->entry = -1;
}

// clone3 with a stack of its own, as the C library has no wrapper for it.
static pid_t born_in(int cgroup) {
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
    } args = {.flags = CLONE_VM | CLONE_VFORK | INTO_CGROUP, .exit_signal = SIGCHLD, .stack = (uintptr_t)stack,
              .stack_size = sizeof stack, .cgroup = (uint64_t)cgroup};
    long result;
#if defined(__x86_64__)
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "xor %%edi, %%edi\n\t"
                     "call *%[run]\n\t"
                     "1:"
                     : "=a"(result)
                     : "a"(SYS_clone3), "D"(&args), "S"(sizeof args), [run] "r"((long (*)(void *))(void *)child)
                     : "rcx", "r11", "memory");
#else
    args.flags = INTO_CGROUP;
    args.stack = args.stack_size = 0;
    result = syscall(SYS_clone3, &args, sizeof args);
    if (result == 0) child(0);
    if (result < 0) result = -errno;
#endif
    if (result < 0) {
        errno = (int)-result;
        die("clone3");
    }
    return (pid_t)result;
}

static int finish(pid_t pid) {
    int status;
    if (waitpid(pid, &status, 0) < 0) die("wait");
    for (int i = 0; i < count; i++) {
        struct group *g = &groups[i];
        if (!g->controller) {
            get(g->dir, "cpu.stat");
            get(g->dir, "memory.peak");
        } else if (!strcmp(g->controller, "memory")) {
            get(g->dir, "memory.max_usage_in_bytes");
        }
    }
    for (int i = count; i-- > 0;)
        while (unlinkat(groups[i].parent, name, AT_REMOVEDIR))
            if (errno != EBUSY) die("rmdir");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static pid_t start(int v2) {
    if (v2) return born_in(groups[0].dir);
    pid_t pid = clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, 0);
    if (pid < 0) die("clone");
    return pid;
}

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int kill_group(int v2, const char *dir, int n) {
    make(&groups[0], dir);
    int entry = openat(groups[0].dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    for (int i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid < 0) die("fork");
        if (pid == 0) {
            if (write(entry, "0", 1) != 1) _exit(1);
            for (;;) pause();
        }
    }
    usleep(300000);
    double start_us = now_us();
    if (v2) {
        put(groups[0].dir, "cgroup.kill", "1");
        while (waitpid(-1, 0, 0) > 0) {}
    } else {
        // Opened anew each round: a kept descriptor shows a kept list.
        for (;;) {
            char line[32];
            int fd = openat(groups[0].dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
            FILE *f = fdopen(fd, "r");
            int found = 0;
            while (f && fgets(line, sizeof line, f)) found++, kill(atoi(line), SIGKILL);
            if (f) fclose(f);
            if (!found) break;
            while (waitpid(-1, 0, 0) > 0) {}
        }
    }
    while (unlinkat(groups[0].parent, name, AT_REMOVEDIR))
        if (errno != EBUSY) die("rmdir");
    printf("%.0f\n", now_us() - start_us);
    return 0;
}

static int leave_sleepers(int n) {
    for (int i = 0; i < n; i++) {
        pid_t pid = fork();
        if (pid < 0) die("fork");
        if (pid == 0)
            for (;;) pause();
    }
    usleep(300000);
    printf("%.0f\n", now_us());
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    if (!strcmp(argv[1], "kept")) {
        int status;
        pid_t keeper = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (keeper < 0) die("fork");
        if (keeper) {
            if (waitpid(keeper, &status, 0) < 0) die("wait");
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        argc--, argv++;
    }
    snprintf(name, sizeof name, "floor-%d", getpid());
    if (!strcmp(argv[1], "sleepers")) return leave_sleepers(atoi(argv[2]));
    if (!strcmp(argv[1], "kill")) return kill_group(!strcmp(argv[2], "v2"), argv[3], atoi(argv[4]));
    int v2 = !strcmp(argv[1], "v2"), i = 2;
    for (; i < argc && strcmp(argv[i], "--"); i++) {
        struct group *g = &groups[count++];
        char *dir = strchr(argv[i], '=');
        if (v2) {
            make(g, argv[i]);
            put(g->dir, "cpu.max", "30000 100000");
            put(g->dir, "memory.max", "268435456");
            put(g->dir, "pids.max", "64");
            continue;
        }
        if (!dir) return 2;
        *dir = 0;
        g->controller = argv[i];
        make(g, dir + 1);
        if (!strcmp(argv[i], "cpu")) put(g->dir, "cpu.cfs_quota_us", "30000");
        if (!strcmp(argv[i], "memory")) put(g->dir, "memory.limit_in_bytes", "268435456");
        if (!strcmp(argv[i], "pids")) put(g->dir, "pids.max", "64");
        g->entry = openat(g->dir, "tasks", O_WRONLY | O_CLOEXEC);
        if (g->entry < 0) die("tasks");
    }
    command = argv + i + 1;
    return finish(start(v2));
}
