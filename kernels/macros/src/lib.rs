//! Attributes on the kernels of hotad.

use proc_macro::TokenStream;
use quote::{format_ident, quote};
use syn::punctuated::Punctuated;
use syn::{
    Error, Expr, FnArg, GenericArgument, ItemFn, Pat, PathArguments, Result, Token, Type, TypeParamBound, parse_quote,
};

/// The body of a function is compiled once, in its own crate: what is `impl Into<T>` in its signature is a `T` in its body.
///
/// A generic function is compiled in each crate that calls it, and with a kernel's launch go the kernel, CubeCL and its
/// compilers. The function becomes a generic one that converts its arguments and calls one that is not generic.
#[proc_macro_attribute]
pub fn outlined(_: TokenStream, item: TokenStream) -> TokenStream {
    syn::parse(item).and_then(split).unwrap_or_else(Error::into_compile_error).into()
}

/// `function` with its body in a function inside it; a method's in a method beside it.
fn split(mut function: ItemFn) -> Result<proc_macro2::TokenStream> {
    let mut inner = function.clone();
    inner.attrs.retain(|a| !a.path().is_ident("doc"));
    inner.vis = syn::Visibility::Inherited;
    inner.sig.ident = format_ident!("{}_outlined", function.sig.ident);
    let mut arguments = Punctuated::<Expr, Token![,]>::new();
    for (i, (outer, inner)) in function.sig.inputs.iter_mut().zip(&mut inner.sig.inputs).enumerate() {
        let (FnArg::Typed(outer), FnArg::Typed(inner)) = (outer, inner) else { continue };
        // A pattern is taken apart inside.
        let name = match &*outer.pat {
            Pat::Ident(p) => p.ident.clone(),
            _ => format_ident!("argument_{i}"),
        };
        outer.pat = parse_quote!(#name);
        arguments.push(match converted(&outer.ty) {
            Some(ty) => {
                inner.ty = Box::new(ty.clone());
                parse_quote!(#name.into())
            }
            None => parse_quote!(#name),
        });
    }
    let name = &inner.sig.ident;
    if function.sig.receiver().is_some() {
        function.block = parse_quote!({ self.#name(#arguments) });
        return Ok(quote!(#function #inner));
    }
    function.block = parse_quote!({
        #inner
        #name(#arguments)
    });
    Ok(quote!(#function))
}

/// `T` of `impl Into<T>`.
fn converted(ty: &Type) -> Option<&Type> {
    let Type::ImplTrait(ty) = ty else { return None };
    let TypeParamBound::Trait(bound) = ty.bounds.first()? else { return None };
    let last = bound.path.segments.last().filter(|s| s.ident == "Into")?;
    let PathArguments::AngleBracketed(of) = &last.arguments else { return None };
    of.args.iter().find_map(|a| if let GenericArgument::Type(ty) = a { Some(ty) } else { None })
}
