//! The shared headers as Rust: structs and constants, and the functions that are pure mathematics, which are called rather
//! than written a second time. Their signatures are those of the C text, by bindgen.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bindgen::callbacks::{DeriveInfo, ParseCallbacks};
use quote::ToTokens;
use syn::{
    FnArg, ForeignItem, ForeignItemFn, Ident, Item, PointerMutability, ReturnType, Safety, Type,
};

use super::write;

const HEADER: &str = "src/kernel/native.h";

/// Name, in OUT_DIR, of the C file that makes the headers' static inline functions symbols.
pub const WRAPPERS: &str = "native_functions.c";

/// Write `bpf_intf.rs`, `native_functions.rs` and [`WRAPPERS`] into `out`.
///
/// # Errors
/// When clang cannot read the headers, or when one of their functions is none that safe code can call.
pub fn generate(out: &Path) -> Result<()> {
    let bindings = bindgen::Builder::default()
        .header(HEADER)
        .clang_args(["-Isrc/bpf", "-std=gnu11"])
        // Not what the compiler's own headers define.
        .allowlist_file("src/.*")
        .derive_default(true)
        // `const s16 x[64]` is a pointer to 64 of them, not to any number.
        .array_pointers_in_arguments(true)
        .wrap_static_fns(true)
        .wrap_static_fns_path(out.join(WRAPPERS))
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .parse_callbacks(Box::new(Views))
        .generate()
        .with_context(|| format!("bindgen cannot read {HEADER}"))?;

    let (functions, types): (Vec<_>, Vec<_>) = syn::parse_file(&bindings.to_string())?
        .items
        .into_iter()
        .partition(|item| matches!(item, Item::ForeignMod(_)));
    let functions = functions
        .into_iter()
        .map(|item| made_safe(item, &types))
        .collect::<Result<Vec<_>>>()?;
    write(&out.join("bpf_intf.rs"), &formatted(types))?;
    write(&out.join("native_functions.rs"), &formatted(functions))
}

/// Lets every struct be seen as bytes, and made of any: the derives compile only for integers without padding between them.
#[derive(Debug)]
struct Views;

impl ParseCallbacks for Views {
    fn add_derives(&self, _: &DeriveInfo<'_>) -> Vec<String> {
        ["FromBytes", "Immutable", "IntoBytes"]
            .map(|view| format!("zerocopy::{view}"))
            .to_vec()
    }
}

fn formatted(items: Vec<Item>) -> String {
    let mut file: syn::File = syn::parse_quote!();
    file.items = items;
    prettyplease::unparse(&file)
}

/// An `extern` block with its functions declared safe and taking references.
fn made_safe(mut item: Item, types: &[Item]) -> Result<Item> {
    if let Item::ForeignMod(block) = &mut item {
        for item in &mut block.items {
            match item {
                ForeignItem::Fn(function) => make_safe(function, types)?,
                other => bail!("{HEADER} declares what is no function: {}", text(other)),
            }
        }
    }
    Ok(item)
}

/// Declare a function safe, with references for pointers.
///
/// That is sound: the headers' functions are compiled from the very text that the signatures are of, touch nothing but their
/// arguments, keep no pointer, and are total. Whatever the integers, they neither index out of bounds nor divide by zero nor
/// shift too far, and with -fwrapv (build.rs) none of them overflows. A reference is a valid pointer to a valid value, and what
/// else could be a pointer is refused here.
fn make_safe(function: &mut ForeignItemFn, types: &[Item]) -> Result<()> {
    let sig = &mut function.sig;
    for arg in &mut sig.inputs {
        let FnArg::Typed(arg) = arg else { continue };
        arg.ty = passed(&arg.ty, types).with_context(|| {
            format!(
                "{}() takes `{}`: safe code can lend no more than a struct or an array of known length",
                sig.ident,
                text(&*arg)
            )
        })?;
    }
    if let ReturnType::Type(_, ty) = &sig.output
        && !is_value(ty, types)
    {
        bail!(
            "{}() returns `{}`: nobody knows for how long it is valid",
            sig.ident,
            text(ty)
        );
    }
    sig.safety = Safety::Safe(Default::default());
    Ok(())
}

/// What safe code passes where C takes this; None: nothing would be sound.
fn passed(ty: &Type, types: &[Item]) -> Option<Box<Type>> {
    let Type::Ptr(ptr) = ty else {
        return is_value(ty, types).then(|| Box::new(ty.clone()));
    };
    let target = &*ptr.elem;
    let known = match target {
        Type::Array(array) => is_value(&array.elem, types),
        _ => types
            .iter()
            .any(|item| matches!(item, Item::Struct(s) if is_named(target, &s.ident))),
    };
    known.then(|| match ptr.mutability {
        PointerMutability::Mut(_) => syn::parse_quote!(&mut #target),
        PointerMutability::Const(_) => syn::parse_quote!(&#target),
    })
}

/// Whether it holds no pointer, not even under another name. Structs do not: see [`Views`].
fn is_value(ty: &Type, types: &[Item]) -> bool {
    let hides_pointer = |item: &Item| matches!(item, Item::Type(t) if is_named(ty, &t.ident) && !is_value(&t.ty, types));
    let is_path = |ty: &Type| matches!(ty, Type::Path(p) if p.path.segments.iter().all(|s| s.arguments.is_none()));
    is_path(ty) && !types.iter().any(hides_pointer)
}

fn is_named(ty: &Type, name: &Ident) -> bool {
    matches!(ty, Type::Path(path) if path.path.is_ident(name))
}

fn text(tokens: &impl ToTokens) -> String {
    tokens.to_token_stream().to_string()
}
