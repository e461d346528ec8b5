//! Rules about single files: length, module documentation, names, paths.

use std::path::Path;

use super::Finding;

pub(super) const LENGTH: &str = "length";
pub(super) const MODULE_DOCS: &str = "module-docs";
pub(super) const GETTER_NAMES: &str = "getter-names";
pub(super) const FILE_NAMES: &str = "file-names";
pub(super) const MACHINE_PATHS: &str = "machine-paths";

const LINES_MAX: usize = 800;
const LINES_WARN: usize = 500;

/// Files that may be longer than [`LINES_MAX`], each with its reason.
const LONG_FILES: [(&str, &str); 0] = [];

/// What may follow `get_` in a getter: the standard library's own conventions.
const STANDARD_NAMES: [&str; 2] = ["mut", "ref"];

/// What file names may not contain: such a file has no subject of its own.
const VAGUE_WORDS: [&str; 3] = ["manager", "helper", "util"];

/// Beginnings of paths that exist on one machine only; `/home/` may occur in an example. Written in
/// pieces, so that they are not found here.
const MACHINE_ROOTS: [&str; 2] = [concat!("/", "work/"), concat!("/", "root/")];

pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if path.ends_with(".rs") {
        findings.extend(length(path, text));
        findings.extend(module_docs(path, text));
        findings.extend(getter_names(path, text));
    }
    findings.extend(file_name(path));
    findings.extend(machine_paths(path, text));
    findings
}

fn length(path: &str, text: &str) -> Option<Finding> {
    let count = text.lines().count();
    if LONG_FILES.iter().any(|(long, _)| *long == path) {
        return None;
    }
    if count > LINES_MAX {
        let text = format!("{path}: {count} lines, at most {LINES_MAX}");
        Some(Finding::failure(LENGTH, text))
    } else if count > LINES_WARN {
        let text = format!("{path}: {count} lines; would two files be easier to read?");
        Some(Finding::warning(LENGTH, text))
    } else {
        None
    }
}

/// The first thing in a file, after inner attributes, must be `//!`.
fn module_docs(path: &str, text: &str) -> Option<Finding> {
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    let documented = first.is_some_and(|line| line.starts_with("//!"));
    (!documented).then(|| Finding::failure(MODULE_DOCS, format!("{path}: does not begin with //!")))
}

/// A getter takes nothing but `self`. Other functions may begin with `get_`: it is AMQP's verb,
/// too.
fn getter_names(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let Some((_, after)) = code.split_once(concat!("fn ", "get_")) else { continue };
        let Some((name, parameters)) = after.split_once('(') else { continue };
        let parameters = parameters.split(')').next().unwrap_or_default();
        let getter = matches!(parameters, "self" | "&self" | "&mut self");
        if getter && !STANDARD_NAMES.contains(&name) {
            let text = format!("{path}:{}: `get_{name}`; a getter has no prefix", index + 1);
            findings.push(Finding::failure(GETTER_NAMES, text));
        }
    }
    findings
}

fn file_name(path: &str) -> Option<Finding> {
    let name = Path::new(path).file_name()?.to_str()?.to_lowercase();
    let word = VAGUE_WORDS.iter().find(|word| name.contains(**word))?;
    Some(Finding::failure(FILE_NAMES, format!("{path}: `{word}` says nothing about the content")))
}

fn machine_paths(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(root) = MACHINE_ROOTS.iter().find(|root| has_root(line, root)) {
            let text = format!("{path}:{}: a path under {root}", index + 1);
            findings.push(Finding::failure(MACHINE_PATHS, text));
        }
    }
    findings
}

/// Whether an absolute path begins with `root`: in `https://host/work/` it does not.
fn has_root(line: &str, root: &str) -> bool {
    line.match_indices(root).any(|(at, _)| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<(bool, &'static str)> {
        check(path, text).into_iter().map(|finding| (finding.fatal, finding.rule)).collect()
    }

    #[test]
    fn tidy_file_has_no_findings() {
        assert!(rules("crates/amqp/src/frame.rs", "//! Frames.\nfn type_of() {}\n").is_empty());
        assert!(rules("fuzz/a.rs", "#![no_main]\n\n//! Fuzzes.\n").is_empty());
        assert!(rules("README.md", "# wilco\n").is_empty());
    }

    #[test]
    fn long_file_warns_and_longer_one_fails() {
        let text = |lines: usize| format!("//! Docs.\n{}", "\n".repeat(lines - 1));
        assert!(rules("a.rs", &text(500)).is_empty());
        assert_eq!(rules("a.rs", &text(501)), [(false, LENGTH)]);
        assert_eq!(rules("a.rs", &text(800)), [(false, LENGTH)]);
        assert_eq!(rules("a.rs", &text(801)), [(true, LENGTH)]);
        assert!(rules("a.sql", &text(801)).is_empty());
    }

    #[test]
    fn module_without_docs_fails() {
        assert_eq!(rules("a.rs", "use std::fs;\n//! Late.\n"), [(true, MODULE_DOCS)]);
        assert_eq!(rules("a.rs", ""), [(true, MODULE_DOCS)]);
    }

    #[test]
    fn getter_with_a_prefix_fails() {
        let text = |rest: &str| format!("//! Docs.\npub {}_{rest} {{}}\n", "fn get");
        assert_eq!(rules("a.rs", &text("name(&self) -> &str")), [(true, GETTER_NAMES)]);
        assert_eq!(rules("a.rs", &text("name(&mut self)")), [(true, GETTER_NAMES)]);
        assert!(rules("a.rs", &text("mut(&mut self)")).is_empty());
        assert!(rules("a.rs", &text("soon(&self, queue: &str)")).is_empty());
        assert!(rules("a.rs", &text("leaves_the_queue_empty()")).is_empty());
    }

    #[test]
    fn vague_file_name_fails() {
        assert_eq!(rules("src/queue_manager.py", ""), [(true, FILE_NAMES)]);
        assert_eq!(rules("src/utils.sh", ""), [(true, FILE_NAMES)]);
        assert!(rules("src/managers/queue.py", "").is_empty());
    }

    #[test]
    fn path_of_one_machine_fails() {
        for root in MACHINE_ROOTS {
            assert_eq!(rules("a.md", &format!("see `{root}x`")), [(true, MACHINE_PATHS)]);
            assert!(rules("a.md", &format!("https://example.com{root}x")).is_empty());
        }
    }
}
