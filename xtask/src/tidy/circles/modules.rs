//! The modules of one crate, and which uses which.
//!
//! A path is followed as far as there are modules. A name that a `mod.rs` only imports is followed
//! further for users inside that folder, and for everybody if it is the crate's root; for users
//! outside, what a folder exports counts as the folder. A `mod.rs` that exports something from its
//! own folder does not thereby use it. What is compiled only for tests, and files named `tests`, do
//! not count.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    code::{self, Code, Import, Mention},
    graph::Graph,
};

type Path = Vec<String>;

/// How many imports of imports are followed.
const IMPORTS_MAX: usize = 8;

/// A crate's modules by their paths.
pub(super) struct Modules(BTreeMap<Path, Module>);

struct Module {
    code: Code,
    /// Its place among the files: the folders, then its own name, which is `mod` for a folder's own
    /// file.
    place: Path,
}

/// Arrows within each folder; that of the source itself has the empty path.
pub(super) type Graphs = BTreeMap<Path, Graph>;

impl Modules {
    /// Takes the files of a crate, each with its path below `src`.
    pub(super) fn read<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>) -> Self {
        let mut modules = BTreeMap::new();
        for (file, text) in files {
            let Some(stem) = file.strip_suffix(".rs") else { continue };
            let mut place: Path = stem.split('/').map(str::to_owned).collect();
            let mut path = place.clone();
            path.pop_if(|name| name == "mod");
            if matches!(path.as_slice(), [name] if name == "lib" || name == "main") {
                path.clear();
                place.truncate(1);
            }
            modules.insert(path, Module { code: code::read(text), place });
        }
        // `a.rs` beside a folder `a` belongs to that folder.
        let folders: BTreeSet<Path> =
            modules.keys().filter_map(|path| Some(path.split_last()?.1.to_vec())).collect();
        for (path, module) in &mut modules {
            if module.place == *path && folders.contains(path) {
                module.place.push("mod".to_owned());
            }
        }
        let mut read = Self(modules);
        read.drop_tests();
        read
    }

    fn drop_tests(&mut self) {
        let declared = self.0.iter().flat_map(|(path, module)| {
            let names = module.code.test_modules.iter();
            names.map(|name| [path.as_slice(), std::slice::from_ref(name)].concat())
        });
        let for_tests: Vec<Path> = declared.collect();
        self.0.retain(|path, _| {
            let is_named = path.iter().any(|name| name == "tests");
            !is_named && !for_tests.iter().any(|module| path.starts_with(module))
        });
    }

    /// Every arrow, in the folder where the paths of its two ends diverge.
    pub(super) fn graphs(&self) -> Graphs {
        let mut graphs = Graphs::new();
        for (path, module) in &self.0 {
            let is_index = module.place != *path;
            for import in &module.code.imports {
                let handed_out = import.public && is_index;
                if let Some(to) = self.target(path, &import.from, path)
                    && !(handed_out && to.starts_with(path))
                {
                    self.add(&mut graphs, path, to);
                }
            }
            for mention in &module.code.paths {
                if let Some(to) = self.target(path, mention, path) {
                    self.add(&mut graphs, path, to);
                }
            }
        }
        graphs
    }

    fn add(&self, graphs: &mut Graphs, from: &Path, to: &Path) {
        let (from, to) = (&self.0[from].place, &self.0[to].place);
        let Some(parting) = from.iter().zip(to).position(|(from, to)| from != to) else { return };
        let (from_name, to_name) = (&from[parting], &to[parting]);
        let is_root = |name: &str| parting == 0 && matches!(name, "lib" | "main");
        if !is_root(from_name) && !is_root(to_name) {
            graphs.entry(from[..parting].to_vec()).or_default().add(from_name, to_name);
        }
    }

    /// The module that a path in `at` refers to, for a use in `user`.
    fn target(&self, at: &Path, mention: &Mention, user: &Path) -> Option<&Path> {
        self.follow(at, mention, user, IMPORTS_MAX)
    }

    fn follow(&self, at: &Path, mention: &Mention, user: &Path, left: usize) -> Option<&Path> {
        let (module, rest) = self.walk(at, mention)?;
        let is_open = module.is_empty() || user.starts_with(module);
        let (Some(name), true, Some(left)) = (rest.first(), is_open, left.checked_sub(1)) else {
            return Some(module);
        };
        let code = &self.0[module].code;
        if let Some(import) = code.imports.iter().find(|import| import.name == *name) {
            // An import from another crate is not a use of this one.
            return self.follow(module, &further(import, &rest[1..]), user, left);
        }
        let globs = code.imports.iter().filter(|import| import.name == "*");
        let mut sources = globs.filter_map(|import| self.follow(module, &import.from, user, left));
        let defines = |module: &Path| self.0[module].code.items.contains(name);
        if defines(module) {
            return Some(module);
        }
        sources.find(|source| defines(source)).or(Some(module))
    }

    /// The deepest module on a path, and the rest of the path.
    fn walk<'s, 'm>(&'s self, at: &Path, mention: &'m Mention) -> Option<(&'s Path, &'m [String])> {
        let here = [at.as_slice(), mention.inside.as_slice()].concat();
        let mut rest = mention.segments.as_slice();
        let mut path = here;
        match rest.first()?.as_str() {
            "crate" => path.clear(),
            "self" => {}
            "super" => {
                while rest.get(1).is_some_and(|next| next == "super") {
                    path.pop();
                    rest = &rest[1..];
                }
                path.pop();
            }
            child => {
                // Any other first name is either a module declared here or another crate.
                path.push(child.to_owned());
                self.0.get(&path)?;
            }
        }
        rest = &rest[1..];
        while let Some(name) = rest.first() {
            path.push(name.clone());
            if !self.0.contains_key(&path) {
                path.pop();
                break;
            }
            rest = &rest[1..];
        }
        // Inline modules are part of their file.
        while !self.0.contains_key(&path) {
            path.pop()?;
        }
        self.0.get_key_value(&path).map(|(module, _)| (module, rest))
    }
}

/// The path along which an import is followed.
fn further(import: &Import, rest: &[String]) -> Mention {
    let segments = [import.from.segments.as_slice(), rest].concat();
    Mention { inside: import.from.inside.clone(), segments }
}
