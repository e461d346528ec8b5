//! The rule on small made-up crates.

use super::*;

/// The result for a crate named `c`: whether it fails, the findings, the line.
fn check(files: &[(&str, &str)]) -> (bool, Vec<String>, String) {
    let mut checked = Checked::default();
    check_crate("c", &Modules::read(files.iter().copied()), &mut checked);
    let fails = checked.findings.iter().any(|finding| finding.fatal);
    let findings = checked.findings.into_iter().map(|finding| finding.text).collect();
    (fails, findings, checked.lines.concat())
}

fn passes(files: &[(&str, &str)]) -> String {
    let (fails, findings, line) = check(files);
    assert!(!fails && findings.is_empty(), "{findings:?}");
    line
}

fn fails(files: &[(&str, &str)]) -> String {
    let (fails, findings, _) = check(files);
    assert!(fails, "no finding");
    findings.concat()
}

const LIB: (&str, &str) = ("lib.rs", "mod a; mod b; pub use a::A; pub use b::B;");

#[test]
fn arrows_one_way_pass() {
    let files = [LIB, ("a.rs", "use crate::b::B;"), ("b/mod.rs", "pub struct B;")];
    assert_eq!(passes(&files), "c: no circle");
}

#[test]
fn a_circle_between_folders_fails_however_it_is_written() {
    let there = ("a/mod.rs", "pub struct A; use super::b;");
    for back in [
        "use crate::a::A;",
        "use crate::A;",
        "use super::{b, a::{self, A}};",
        "fn f() -> crate::a::A { crate::a::A }",
        "mod inline { fn f(_: super::super::A) {} }",
    ] {
        let told = fails(&[LIB, there, ("b.rs", back)]);
        assert_eq!(told, "c: 2 folders in a circle: a → b → a", "{back}");
    }
}

#[test]
fn the_root_is_in_no_circle() {
    let root = ("main.rs", "mod a; struct Root; fn main() { a::run() }");
    assert_eq!(passes(&[root, ("a.rs", "use crate::Root; pub fn run() {}")]), "c: no circle");
}

#[test]
fn what_a_folder_hands_out_counts_as_the_folder() {
    let a = ("a/mod.rs", "mod x; pub use x::X; pub use crate::b::B;");
    let told = fails(&[LIB, a, ("a/x.rs", "pub struct X;"), ("b.rs", "use crate::a::X;")]);
    assert_eq!(told, "c: 2 folders in a circle: a → b → a");
}

#[test]
fn a_circle_within_a_folder_is_only_told() {
    let line = passes(&[
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod x; mod y; mod z; pub use x::X;"),
        ("a/x.rs", "use super::y::Y; pub struct X;"),
        ("a/y.rs", "use super::z; pub struct Y;"),
        ("a/z.rs", "fn f(_: super::X) {}"),
    ]);
    assert_eq!(line, "c: a: 3 modules in a circle: x → y → z → x");
}

#[test]
fn a_folder_that_uses_its_own_files_is_one_of_its_modules() {
    let own = |index| {
        let x = ("a/x.rs", "use super::Shared; pub struct X;");
        passes(&[("lib.rs", "mod a;"), ("a/mod.rs", index), x])
    };
    assert_eq!(own("mod x; pub use x::X; pub struct Shared;"), "c: no circle");
    let line = "c: a: 2 modules in a circle: mod → x → mod";
    assert_eq!(own("mod x; use x::X; pub struct Shared;"), line);
    assert_eq!(own("mod x; pub struct Shared; fn f() { x::g() }"), line);
    // What it imports from another crate does not count.
    assert_eq!(own("mod x; use x::X; use anyhow::Shared;"), "c: no circle");
}

#[test]
fn the_file_beside_a_folder_belongs_to_it() {
    let files = [
        ("lib.rs", "mod a;"),
        ("a.rs", "mod x; fn f() { x::g() } pub struct Shared;"),
        ("a/x.rs", "use super::Shared;"),
    ];
    assert_eq!(passes(&files), "c: a: 2 modules in a circle: mod → x → mod");
}

#[test]
fn a_name_from_all_names_of_a_module_is_followed_to_where_it_is_defined() {
    let told = fails(&[
        ("lib.rs", "mod a; mod b; pub use a::*; pub use b::*;"),
        ("a.rs", "pub struct A; fn f(_: crate::B) {}"),
        ("b.rs", "pub enum B {} fn f(_: crate::A) {}"),
    ]);
    assert_eq!(told, "c: 2 folders in a circle: a → b → a");
}

#[test]
fn tests_do_not_count() {
    let line = passes(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b; #[cfg(test)] mod double; #[cfg(test)] mod tests;"),
        ("a/double.rs", "use crate::b;"),
        ("b.rs", "#[cfg(test)] mod tests { use crate::a; } #[cfg(test)] use crate::a;"),
        ("b/tests.rs", "use crate::a;"),
        ("b/tests/more.rs", "use crate::a;"),
    ]);
    assert_eq!(line, "c: no circle");
}
