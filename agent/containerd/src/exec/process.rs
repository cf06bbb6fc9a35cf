//! The process of a command, made from that of its container; pure.

use api_types::relay::TerminalSize;
use serde_json::{Value, json};

/// What programs ask to know which terminal they write to.
const TERMINAL: &str = "TERM";

/// Gives the process as the runtime reads it: all is as for the container's own, but for what it runs and its terminal.
pub(super) fn beside(spec: &[u8], command: &[String], terminal: Option<TerminalSize>) -> Result<Vec<u8>, String> {
    let mut spec: Value = serde_json::from_slice(spec).map_err(|error| format!("its specification: {error}"))?;
    let mut process = spec["process"].take();
    if !process.is_object() {
        return Err("its specification names no process".to_owned());
    }
    process["args"] = json!(command);
    process["terminal"] = json!(terminal.is_some());
    if let Some(size) = terminal {
        process["consoleSize"] = json!({"width": size.columns, "height": size.rows});
        let variables = process["env"].as_array().cloned().unwrap_or_default();
        let is_said = variables.iter().filter_map(Value::as_str).any(|entry| entry.split('=').next() == Some(TERMINAL));
        if !is_said {
            let said = json!(format!("{TERMINAL}=xterm"));
            process["env"] = variables.into_iter().chain([said]).collect();
        }
    }
    serde_json::to_vec(&process).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_the_rights_of_its_container_and_its_own_words() {
        let spec = br#"{"process": {"args": ["/bin/web"], "cwd": "/srv", "env": ["A=1"], "noNewPrivileges": true,
            "user": {"uid": 1000, "gid": 1000}, "capabilities": {"bounding": []}}, "root": {"path": "rootfs"}}"#;
        let command = ["sh".to_owned(), "-c".to_owned()];
        let process = |terminal| -> Value {
            serde_json::from_slice(&beside(spec, &command, terminal).expect("a process")).expect("JSON")
        };

        let (plain, interactive) = (process(None), process(Some(TerminalSize { columns: 80, rows: 24 })));

        let expected = json!({"args": ["sh", "-c"], "cwd": "/srv", "env": ["A=1"], "noNewPrivileges": true,
            "user": {"uid": 1000, "gid": 1000}, "capabilities": {"bounding": []}, "terminal": false});
        assert_eq!(plain, expected);
        assert_eq!(interactive["env"], json!(["A=1", "TERM=xterm"]));
        assert_eq!(interactive["consoleSize"], json!({"width": 80, "height": 24}));
    }

    #[test]
    fn a_terminal_that_the_container_names_is_kept() {
        let size = Some(TerminalSize { columns: 80, rows: 24 });
        let process = beside(br#"{"process": {"env": ["TERM=vt100"]}}"#, &["sh".to_owned()], size).expect("a process");

        assert!(String::from_utf8(process).expect("text").contains(r#"["TERM=vt100"]"#));
        assert!(beside(b"{}", &["sh".to_owned()], None).is_err());
    }
}
