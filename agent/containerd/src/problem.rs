//! What the runtime says when a process does not start, boiled down to one line for people; pure.

use crate::error::ExecError;

/// Longest line for people, in characters.
const LINE_MAX: usize = 300;
/// What each layer of the runtime puts before the cause.
const WRAPPINGS: [&str; 9] = [
    "OCI runtime exec failed: exec failed: ",
    "failed to create task: ",
    "failed to create shim task: ",
    "failed to create shim: ",
    "OCI runtime create failed: ",
    "OCI runtime start failed: ",
    "runc create failed: ",
    "unable to start container process: ",
    "container_linux.go:380: starting container process caused: ",
];

/// Boils the runtime's text down.
pub(crate) fn boil_down(text: &str) -> String {
    let mut rest = text.trim();
    while let Some(inner) = WRAPPINGS.iter().find_map(|wrapping| rest.split_once(wrapping)).map(|(_, inner)| inner) {
        rest = inner;
    }
    let rest = rest.trim_end_matches(": unknown");
    if let Some((command, cause)) = rest.strip_prefix("exec: ").and_then(split_quoted) {
        return match cause {
            cause if cause.contains("not found in $PATH") => {
                format!("command `{command}` was not found in the image (looked in PATH)")
            }
            cause if cause.contains("no such file or directory") => {
                format!("command `{command}` does not exist in the image")
            }
            cause if cause.contains("permission denied") => {
                format!("command `{command}` may not be executed: permission denied")
            }
            cause if cause.contains("is a directory") => format!("command `{command}` is a directory"),
            cause => shorten(&format!("command `{command}`: {cause}")),
        };
    }
    if rest.contains("exec format error") {
        return "the command is not a program for this machine (exec format error): wrong architecture, or a script without `#!`"
            .to_owned();
    }
    if let Some((directory, cause)) = rest.split_once("chdir to cwd (").and_then(|(_, inner)| split_quoted(inner)) {
        let cause = cause.rsplit(": ").next().unwrap_or(cause);
        return format!("working directory `{directory}`: {cause}");
    }
    if rest.contains("container init was OOM-killed") {
        return "the memory limit is too low to start any process".to_owned();
    }
    shorten(rest)
}

/// What the runtime says when a command in a container does not start: by kinds, as shells have exit codes for them.
pub(crate) fn exec(text: &str) -> ExecError {
    let line = boil_down(text);
    let is = |cause: &str| line.contains(cause);
    if is("was not found in the image") || is("does not exist in the image") {
        ExecError::NotFound(line)
    } else if is("may not be executed") || is("is a directory") || is("exec format error") {
        ExecError::NotExecutable(line)
    } else {
        ExecError::Process(line)
    }
}

/// Splits `"name": rest`.
fn split_quoted(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.strip_prefix('"')?.split_once('"')?;
    Some((name, rest.trim_start_matches([':', ')', ' '])))
}

fn shorten(text: &str) -> String {
    let line: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    if line.chars().count() <= LINE_MAX {
        return line;
    }
    line.chars().take(LINE_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_run_is_told_from_one_that_is_not_there() {
        let failed = |cause: &str| {
            exec(&format!("OCI runtime exec failed: exec failed: unable to start container process: {cause}"))
        };

        let missing = failed(r#"exec: "nope": executable file not found in $PATH: unknown"#);
        let forbidden = failed(r#"exec: "/etc/x": permission denied: unknown"#);
        let other = failed("something else: unknown");

        assert!(matches!(missing, ExecError::NotFound(line) if line.contains("`nope` was not found")));
        assert!(matches!(forbidden, ExecError::NotExecutable(line) if line.contains("permission denied")));
        assert!(matches!(other, ExecError::Process(line) if line == "something else"));
    }

    #[test]
    fn a_person_reads_one_line() {
        let create = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: ";
        for (text, line) in [
            (
                r#"exec: "nope": executable file not found in $PATH: unknown"#,
                "command `nope` was not found in the image (looked in PATH)",
            ),
            (
                r#"exec: "/nope": stat /nope: no such file or directory: unknown"#,
                "command `/nope` does not exist in the image",
            ),
            (
                r#"exec: "/etc/x": permission denied: unknown"#,
                "command `/etc/x` may not be executed: permission denied",
            ),
            (
                r#"chdir to cwd ("/gone") set in config.json failed: no such file or directory: unknown"#,
                "working directory `/gone`: no such file or directory",
            ),
            ("something\nelse: unknown", "something else"),
        ] {
            assert_eq!(boil_down(&format!("{create}{text}")), line);
        }
        assert_eq!(boil_down(&"x".repeat(1000)).chars().count(), LINE_MAX);
    }
}
