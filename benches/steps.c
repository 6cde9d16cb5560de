// Where a program goes, instruction by instruction, until it or a child of it becomes another program.
//
//   steps COMMAND ARGUMENT...    "0 ADDRESS" for the process itself, "1 ADDRESS" for those that it makes: each once
//
// Unlike valgrind this is the processor and the kernel that are there: namespaces, and system calls of any age.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

// A program that is linked at a fixed address lies below this.
#define SPACE (1L << 26)
static unsigned char seen[2][SPACE];

int main(int argc, char **argv) {
    pid_t first = argc > 1 ? fork() : -1;
    if (first < 0)
        return fprintf(stderr, "steps COMMAND ARGUMENT...\n"), 2;
    if (first == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    int status, begun = 0;
    waitpid(first, &status, 0);
    ptrace(PTRACE_SETOPTIONS, first, 0,
           PTRACE_O_TRACEEXEC | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
    ptrace(PTRACE_CONT, first, 0, 0);
    for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
        if (!WIFSTOPPED(status))
            continue;
        int signal = WSTOPSIG(status), event = status >> 16;
        if (event == PTRACE_EVENT_EXEC && begun) {
            ptrace(PTRACE_DETACH, pid, 0, 0);
            continue;
        }
        if (event == PTRACE_EVENT_EXEC)
            begun = 1;
        struct user_regs_struct at;
        if (begun && signal == SIGTRAP && ptrace(PTRACE_GETREGS, pid, 0, &at) == 0 && at.rip < SPACE &&
            !seen[pid != first][at.rip]++)
            printf("%d %016llx\n", pid != first, at.rip);
        // What we cause ourselves (steps, and the stop of a new process) is nobody else's.
        if (signal == SIGTRAP || signal == SIGSTOP)
            signal = 0;
        ptrace(begun ? PTRACE_SINGLESTEP : PTRACE_CONT, pid, 0, signal);
    }
    return 0;
}
