//! Attributes on the kernels of hotad.

use proc_macro::TokenStream;
use quote::{format_ident, quote};
use syn::punctuated::Punctuated;
use syn::{
    Error, Expr, FnArg, GenericArgument, GenericParam, ItemFn, Pat, PathArguments, Result, Token, Type, TypeParamBound,
    parse_quote,
};

/// The body of a function is compiled once, in its own crate: what is `impl Into<T>` in its signature is a `T` in its body.
///
/// A generic function is compiled in each crate that calls it, and with a kernel's launch go the kernel, CubeCL and its
/// compilers. The function becomes a generic one that converts its arguments and calls one that is not generic. Refused
/// are functions that stay generic otherwise, and patterns in the place of arguments' names.
#[proc_macro_attribute]
pub fn outlined(_: TokenStream, item: TokenStream) -> TokenStream {
    syn::parse(item).and_then(split).unwrap_or_else(Error::into_compile_error).into()
}

/// `function` with its body in a function inside it; a method's in a method beside it.
fn split(mut function: ItemFn) -> Result<proc_macro2::TokenStream> {
    if let Some(generic) = function.sig.generics.params.iter().find(|p| !matches!(p, GenericParam::Lifetime(_))) {
        return Err(Error::new_spanned(generic, "an outlined function has no type or constant parameters"));
    }
    let mut inner = function.clone();
    inner.attrs.retain(|a| !a.path().is_ident("doc"));
    inner.vis = syn::Visibility::Inherited;
    inner.sig.ident = format_ident!("{}_outlined", function.sig.ident);
    let mut converted = Punctuated::<Expr, Token![,]>::new();
    for argument in &mut inner.sig.inputs {
        let FnArg::Typed(argument) = argument else { continue };
        let Pat::Ident(name) = &*argument.pat else {
            return Err(Error::new_spanned(&argument.pat, "an argument of an outlined function has a name"));
        };
        let name = &name.ident;
        converted.push(match target(&argument.ty)? {
            Some(ty) => {
                *argument.ty = ty;
                parse_quote!(#name.into())
            }
            None => parse_quote!(#name),
        });
    }
    let name = &inner.sig.ident;
    if function.sig.receiver().is_some() {
        function.block = parse_quote!({ self.#name(#converted) });
        return Ok(quote!(#function #inner));
    }
    function.block = parse_quote!({
        #inner
        #name(#converted)
    });
    Ok(quote!(#function))
}

/// `T` of `impl Into<T>`; none for a type that is not `impl`.
fn target(ty: &Type) -> Result<Option<Type>> {
    let Type::ImplTrait(implemented) = ty else { return Ok(None) };
    let found = implemented.bounds.first().and_then(|bound| {
        let TypeParamBound::Trait(bound) = bound else { return None };
        let into = bound.path.segments.last().filter(|s| s.ident == "Into")?;
        let PathArguments::AngleBracketed(of) = &into.arguments else { return None };
        of.args.iter().find_map(|a| if let GenericArgument::Type(ty) = a { Some(ty.clone()) } else { None })
    });
    found.map(Some).ok_or_else(|| Error::new_spanned(ty, "only `impl Into<T>` can be outlined"))
}
