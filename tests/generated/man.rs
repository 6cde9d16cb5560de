//! Man pages: what `--help` says and, below it, the long text of each part from `src/doc/*.txt`.
//!
//! A text is plain paragraphs: a line alone that ends in a colon-less heading starts with `# `, lines that begin with
//! four spaces are shown as they are.

use clap::Command;
use clap_mangen::Man;
use std::fs;
use std::path::Path;

pub(crate) fn page(capcon: bool) -> String {
    let command = rcon::cli::command(capcon);
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    // The subcommands stand on this page, not on pages of their own.
    let run_form = command.clone().after_help("");
    let subs: Vec<Command> = command.get_subcommands().cloned().collect();
    let man =
        Man::new(run_form).manual("User Commands").source(format!("rcon {}", env!("CARGO_PKG_VERSION")));
    let mut bytes = Vec::new();
    man.render_title(&mut bytes).expect("title");
    man.render_name_section(&mut bytes).expect("name");
    let mut out = String::from_utf8(bytes).expect("text");
    out.push_str(".SH SYNOPSIS\n");
    if capcon {
        out.push_str(".B capcon\n[\\fIOPTIONS\\fR] [\\fB\\-\\-\\fR] \\fICOMMAND\\fR [\\fIARG\\fR]...\n");
    } else {
        out.push_str(".B rcon\n[\\fIOPTIONS\\fR] [\\fB\\-\\-\\fR] \\fICOMMAND\\fR [\\fIARG\\fR]...\n.br\n.B rcon\n\\fISUBCOMMAND\\fR ...\n");
    }
    let mut bytes = Vec::new();
    man.render_options_section(&mut bytes).expect("options");
    out.push_str(&String::from_utf8(bytes).expect("text"));
    if !subs.is_empty() {
        out.push_str(".SH SUBCOMMANDS\nA subcommand is one only as the first word; anywhere else its name is a command to wrap.\n");
    }
    for sub in subs {
        out.push_str(&format!(
            ".SS rcon {}\n{}.\n",
            escaped(sub.get_name()),
            escaped(&sub.get_about().map(ToString::to_string).unwrap_or_default())
        ));
        for arg in sub.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let name = match arg.get_long() {
                Some(long) => format!("\\-\\-{}", escaped(long)),
                None => escaped(arg.get_id().as_str()),
            };
            let value = arg
                .get_value_names()
                .and_then(|names| names.first())
                .filter(|_| arg.get_action().takes_values() && arg.get_long().is_some());
            let value = value.map(|value| format!(" \\fI{}\\fR", escaped(value))).unwrap_or_default();
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            out.push_str(&format!(".TP\n\\fB{name}\\fR{value}\n{}\n", escaped(&help)));
        }
    }
    out.push_str(&examples(&after));
    for (name, text) in texts() {
        let of_capcon = name.starts_with("capcon");
        if of_capcon == capcon && name != "profile" {
            out.push_str(&prose(&text));
        }
    }
    out.push_str(".SH SEE ALSO\n");
    out.push_str(if capcon { ".BR rcon (1),\n" } else { ".BR capcon (1),\n" });
    out.push_str(".BR rcon\\-profile (5),\n.BR capabilities (7),\n.BR cgroups (7),\n.BR namespaces (7)\n");
    out
}

pub(crate) fn profile() -> String {
    let title =
        format!(".TH rcon\\-profile 5 \"\" \"rcon {}\" \"File Formats\"\n", env!("CARGO_PKG_VERSION"));
    let text = texts().into_iter().find(|(name, _)| name == "profile").map(|(_, text)| text);
    title
        + ".SH NAME\nrcon\\-profile \\- options of rcon in a file\n"
        + &prose(&text.expect("src/doc/profile.txt"))
        + ".SH SEE ALSO\n.BR rcon (1),\n.BR capcon (1)\n"
}

/// The long texts, by name.
fn texts() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/doc");
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).expect("src/doc").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let name = path.file_stem().expect("name").to_string_lossy().into_owned();
            out.push((name, fs::read_to_string(&path).expect("text")));
        }
    }
    out.sort();
    out
}

/// `Examples:` with indented lines, then paragraphs.
fn examples(after: &str) -> String {
    let Some((examples, rest)) = after.split_once("\n\n") else { return String::new() };
    let lines: Vec<&str> = examples.lines().skip(1).collect();
    let status = rest.replace("\n", " ").replace("  ", "\n\n");
    let mut out = String::from(".SH EXAMPLES\n.nf\n");
    lines.iter().for_each(|line| out.push_str(&(escaped(line.trim()) + "\n")));
    out.push_str(".fi\n");
    let (heading, text) = status.split_once(": ").unwrap_or(("Notes", &status));
    let heading = if heading.len() < 20 { heading } else { "Notes" };
    let text = if heading == "Notes" { status.as_str() } else { text };
    out.push_str(&format!(".SH {}\n{}\n", escaped(&heading.to_uppercase()), escaped(text)));
    out
}

/// Plain text as roff.
fn prose(text: &str) -> String {
    let mut out = String::new();
    let mut literal = false;
    let mut fresh = true;
    for line in text.lines() {
        let code = line.starts_with("    ");
        if literal && !code {
            out.push_str(".fi\n.RE\n");
            literal = false;
        }
        if let Some(heading) = line.strip_prefix("# ") {
            out.push_str(&format!(".SH {}\n", escaped(&heading.to_uppercase())));
            fresh = true;
        } else if line.trim().is_empty() {
            if !fresh {
                out.push_str(".PP\n");
            }
            fresh = true;
        } else {
            if code && !literal {
                out.push_str(".RS 4\n.nf\n");
                literal = true;
            }
            out.push_str(&(escaped(if code { &line[4..] } else { line }) + "\n"));
            fresh = false;
        }
    }
    if literal {
        out.push_str(".fi\n.RE\n");
    }
    out.trim_end_matches(".PP\n").to_owned()
}

/// roff takes a backslash, a leading dot or quote, and a bare hyphen for its own.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let lines: Vec<String> = text
        .lines()
        .map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() })
        .collect();
    lines.join("\n")
}
