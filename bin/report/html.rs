//! HTML that is escaped by construction: markup comes from literals of the program alone, all else is text.

use std::fmt::Display;

/// Markup.
#[derive(Default)]
pub struct Html(String);

/// What may stand in place of a `{}`: markup as it is, anything else as text.
pub trait Part {
    fn append(&self, markup: &mut String);
}

impl Part for Html {
    fn append(&self, markup: &mut String) {
        markup.push_str(&self.0);
    }
}

impl<T: Display> Part for T {
    fn append(&self, markup: &mut String) {
        for character in self.to_string().chars() {
            match character {
                '&' => markup.push_str("&amp;"),
                '<' => markup.push_str("&lt;"),
                '>' => markup.push_str("&gt;"),
                '"' => markup.push_str("&quot;"),
                '\'' => markup.push_str("&#39;"),
                other => markup.push(other),
            }
        }
    }
}

impl Html {
    /// A literal with a part in place of each `{}`.
    pub fn of(template: &'static str, parts: &[&dyn Part]) -> Self {
        let mut html = Self::default();
        html.push(template, parts);
        html
    }

    /// Appends a literal with a part in place of each `{}`.
    pub fn push(&mut self, template: &'static str, parts: &[&dyn Part]) {
        debug_assert_eq!(template.matches("{}").count(), parts.len(), "{template}");
        let mut parts = parts.iter();
        for (i, literal) in template.split("{}").enumerate() {
            if i > 0
                && let Some(part) = parts.next()
            {
                part.append(&mut self.0);
            }
            self.0.push_str(literal);
        }
    }

    /// Appends markup.
    pub fn add(&mut self, more: Html) {
        self.0.push_str(&more.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl FromIterator<Html> for Html {
    fn from_iter<I: IntoIterator<Item = Html>>(all: I) -> Self {
        let mut html = Self::default();
        all.into_iter().for_each(|more| html.add(more));
        html
    }
}

/// A relative path as a link: everything but `/` and what URLs take as it is is percent-encoded.
pub fn link(path: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    path.bytes().map(encode).collect()
}
