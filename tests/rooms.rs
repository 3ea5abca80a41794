//! The rooms, and the arrows between them: a file may use what stands above its room in the list of src/lib.rs, and no file
//! may come back to itself by way of others. The same, circles only, for the files of the other crates; and the crates
//! themselves.
//!
//! An arrow is what a `use`, or a path in the code, names of the own crate; `pub use` hands on, and is looked through. Tests
//! are free to look wherever they want.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use scx_ml_text::Show;
use syn::visit::{self, Visit};

/// From the lowest to the highest. What stands beside the rooms ties all of them.
const ROOMS: [&str; 7] = [
    "kernel",
    "model",
    "learn",
    "recording",
    "offline",
    "watch",
    "cli",
];

/// The same for crates: name and folder.
const CRATES: [(&str, &str); 4] = [
    ("scx_ml_text", "crates/text"),
    ("scx_ml", "."),
    ("scx_ml_sim", "crates/sim"),
    ("scx_lab", "crates/lab"),
];

/// A module's path below the root of its crate.
type Module = Vec<String>;

/// Paths that a file's modules name, each from the module where it stands; `handed_on`: name and origin by `pub use`.
#[derive(Default)]
struct Found {
    module: Module,
    named: Vec<(Module, Module)>,
    handed_on: Vec<((Module, String), Module)>,
}

impl Found {
    /// Every path of a `use`, and the name that it has then.
    fn tree(&mut self, tree: &syn::UseTree, mut path: Module, handed_on: bool) {
        let (last, name) = match tree {
            syn::UseTree::Path(p) => {
                path.push(p.ident.to_string());
                return self.tree(&p.tree, path, handed_on);
            }
            syn::UseTree::Group(g) => {
                return g
                    .items
                    .iter()
                    .for_each(|tree| self.tree(tree, path.clone(), handed_on));
            }
            syn::UseTree::Glob(_) => (None, String::new()),
            syn::UseTree::Name(n) => (Some(n.ident.to_string()), n.ident.to_string()),
            syn::UseTree::Rename(r) => (Some(r.ident.to_string()), r.rename.to_string()),
        };
        path.extend(last);
        if handed_on {
            self.handed_on.push(((self.module.clone(), name), path));
        } else {
            self.named.push((self.module.clone(), path));
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("cfg")
            && a.parse_args::<syn::Path>()
                .is_ok_and(|p| p.is_ident("test"))
    })
}

impl<'a> Visit<'a> for Found {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !is_test(&item.attrs) {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        if !is_test(&item.attrs) {
            let handed_on = !matches!(item.vis, syn::Visibility::Inherited);
            self.tree(&item.tree, vec![], handed_on);
        }
    }

    // pub(super) uses nothing.
    fn visit_visibility(&mut self, _: &'a syn::Visibility) {}

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments = path.segments.iter().map(|s| s.ident.to_string());
        self.named.push((self.module.clone(), segments.collect()));
        visit::visit_path(self, path);
    }
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if stem == "tests" || stem.ends_with("_tests") {
            continue;
        }
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The files that each file of a crate uses, by their names below src/.
fn arrows(root: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let src = root.join("src");
    let mut files = vec![];
    rust_files(&src, &mut files);
    let mut modules: BTreeMap<Module, String> = BTreeMap::new();
    let mut found = vec![];
    for path in &files {
        let name = path.strip_prefix(&src).expect("below").with_extension("");
        let mut module: Module = name
            .iter()
            .map(|s| s.to_string_lossy().into_owned())
            .collect();
        if matches!(
            module.last().map(String::as_str),
            Some("mod" | "lib" | "main")
        ) {
            module.pop();
        }
        let text = std::fs::read_to_string(path).expect("readable");
        let file = syn::parse_file(&text).expect("Rust");
        let mut in_file = Found {
            module: module.clone(),
            ..Default::default()
        };
        in_file.visit_file(&file);
        found.push((module.clone(), in_file));
        let shown = path.strip_prefix(&src).expect("below").shown().to_string();
        // Of lib.rs and main.rs the library is the root.
        modules
            .entry(module)
            .and_modify(|n| *n = "lib.rs".into())
            .or_insert(shown);
    }

    // From the root of the crate on; None: of another crate, or a name of the module itself.
    let absolute = |from: &Module, path: &Module| -> Option<Module> {
        let mut base = from.clone();
        let ups = path.iter().take_while(|s| *s == "super").count();
        let rest = match path.first()?.as_str() {
            "crate" => return Some(path[1..].to_vec()),
            "self" => &path[1..],
            "super" => {
                base.truncate(base.len().checked_sub(ups)?);
                &path[ups..]
            }
            first => {
                let child: Module = from.iter().cloned().chain([first.to_string()]).collect();
                modules.contains_key(&child).then_some(&path[..])?
            }
        };
        base.extend_from_slice(rest);
        Some(base)
    };
    let handed_on: BTreeMap<(Module, String), Module> = found
        .iter()
        .flat_map(|(_, f)| &f.handed_on)
        .filter_map(|((from, name), path)| {
            Some(((from.clone(), name.clone()), absolute(from, path)?))
        })
        .collect();
    let file_of = |mut path: Module| -> String {
        // As often as something can be handed on.
        for _ in 0..4 {
            let known = (0..=path.len())
                .rev()
                .find(|n| modules.contains_key(&path[..*n]))
                .expect("the root");
            let origin = path
                .get(known)
                .and_then(|next| handed_on.get(&(path[..known].to_vec(), next.clone())));
            match origin {
                Some(origin) => path = origin.clone(),
                None => return modules[&path[..known]].clone(),
            }
        }
        panic!("{path:?} is handed on in a circle")
    };
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, in_file) in &found {
        let from = &modules[module];
        let used = in_file.named.iter();
        let used = used.filter_map(|(at, path)| absolute(at, path).map(file_of));
        let used: BTreeSet<String> = used.filter(|to| to != from).collect();
        arrows.entry(from.clone()).or_default().extend(used);
    }
    arrows
}

/// A way from `at` back to `goal`, without what is `done`.
fn way_back(
    arrows: &BTreeMap<String, BTreeSet<String>>,
    at: &str,
    goal: &str,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    for next in arrows.get(at)? {
        if next == goal {
            return Some(vec![at.to_string()]);
        }
        if done.insert(next.clone())
            && let Some(mut way) = way_back(arrows, next, goal, done)
        {
            way.insert(0, at.to_string());
            return Some(way);
        }
    }
    None
}

/// All circles, each once, from its first file on.
fn circles(arrows: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    arrows
        .keys()
        .filter_map(|file| way_back(arrows, file, file, &mut BTreeSet::new()))
        .filter(|way| way.iter().min() == way.first())
        .map(|way| format!("{} → {}", way.join(" → "), way[0]))
        .collect()
}

#[test]
fn no_arrow_runs_up() {
    let rank = |file: &str| {
        let room = file.split('/').next().unwrap_or_default();
        ROOMS.iter().position(|r| *r == room).unwrap_or(ROOMS.len())
    };
    let arrows = arrows(Path::new(env!("CARGO_MANIFEST_DIR")));
    for room in ROOMS {
        assert!(
            arrows.keys().any(|f| f.starts_with(&format!("{room}/"))),
            "there is no src/{room}"
        );
    }
    let up: Vec<String> = arrows
        .iter()
        .flat_map(|(from, used)| used.iter().map(move |to| (from, to)))
        .filter(|(from, to)| rank(to) > rank(from))
        .map(|(from, to)| format!("src/{from} uses src/{to}, which is above it"))
        .collect();
    assert!(up.is_empty(), "{}", up.join("\n"));
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let found = CRATES.iter().flat_map(|(name, folder)| {
        let arrows = arrows(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
        let circles = circles(&arrows).into_iter();
        circles.map(move |circle| format!("{name}: {circle}"))
    });
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn crates_use_only_those_below_them() {
    for (rank, (name, folder)) in CRATES.iter().enumerate() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(folder)
            .join("Cargo.toml");
        let text = std::fs::read_to_string(&path).expect("readable");
        let manifest: toml::Table = text.parse().expect("TOML");
        assert_eq!(manifest["package"]["name"].as_str(), Some(*name));
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(used) = manifest.get(section).and_then(toml::Value::as_table) else {
                continue;
            };
            for (other, _) in &CRATES[rank..] {
                assert!(
                    !used.contains_key(*other),
                    "{folder} uses {other} ({section}), which is not below it"
                );
            }
        }
    }
}
