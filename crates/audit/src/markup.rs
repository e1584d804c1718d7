//! HTML and SVG that nobody else's text can become part of.
//!
//! Titles, purposes, SQL, reasons and clauses come from researchers, hubs and members, and end up on a page that a privacy
//! officer trusts. So a page is put together from [`Markup`], and there are two ways to make one: [`Markup::text`], which
//! escapes whatever it is given, and names of elements and attributes that stand in this program's source (`'static`).
//!
//! Characters that would move the cursor, hide text or turn its direction are replaced, as everywhere where foreign text
//! is shown.
//!
//! Assumes a browser that follows HTML: nothing here depends on how it repairs what is broken, because nothing is.

use std::fmt::{Display, Write as _};

use cohortium_messages::hides;

/// A piece of a page.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(crate) struct Markup(String);

impl Markup {
    /// Anybody's text.
    pub(crate) fn text(text: impl Display) -> Self {
        Self(escape(&text.to_string()))
    }

    /// Ours, from the source: a style sheet, an entity.
    pub(crate) fn fixed(markup: &'static str) -> Self {
        Self(markup.to_owned())
    }

    /// An element with content.
    pub(crate) fn element(name: &'static str, attributes: &[(&'static str, &dyn Display)], content: Self) -> Self {
        let mut markup = open(name, attributes);
        let _ = write!(markup, ">{}</{name}>", content.0);
        Self(markup)
    }

    /// An element without content, as SVG has them.
    pub(crate) fn empty(name: &'static str, attributes: &[(&'static str, &dyn Display)]) -> Self {
        let mut markup = open(name, attributes);
        markup.push_str("/>");
        Self(markup)
    }

    /// This, and more.
    #[must_use]
    pub(crate) fn and(mut self, more: Self) -> Self {
        self.0.push_str(&more.0);
        self
    }
}

impl FromIterator<Markup> for Markup {
    fn from_iter<T: IntoIterator<Item = Self>>(pieces: T) -> Self {
        pieces.into_iter().fold(Self::default(), Self::and)
    }
}

/// An element that needs no attributes.
pub(crate) fn tag(name: &'static str, content: Markup) -> Markup {
    Markup::element(name, &[], content)
}

/// A paragraph.
pub(crate) fn paragraph(text: impl Display) -> Markup {
    tag("p", Markup::text(text))
}

/// A word that leads to another place on the same page.
pub(crate) fn link(anchor: &str, text: &str) -> Markup {
    Markup::element("a", &[("href", &format!("#{anchor}"))], Markup::text(text))
}

/// A list of points.
pub(crate) fn points(items: impl IntoIterator<Item = Markup>) -> Markup {
    tag("ul", items.into_iter().map(|item| tag("li", item)).collect())
}

/// A table with a heading.
pub(crate) fn table<'a>(
    heading: impl IntoIterator<Item = &'a str>,
    rows: impl IntoIterator<Item = Vec<Markup>>,
) -> Markup {
    let heading = heading.into_iter().map(|text| tag("th", Markup::text(text))).collect();
    let row = |cells: Vec<Markup>| tag("tr", cells.into_iter().map(|cell| tag("td", cell)).collect());
    let body = rows.into_iter().map(row).collect();
    tag("table", tag("thead", tag("tr", heading)).and(tag("tbody", body)))
}

/// A whole page, which loads nothing and runs nothing.
pub(crate) fn page(title: &str, style: &'static str, body: Markup) -> String {
    // Should anything ever get past the escaping, there is still no script that would run and nothing that would load.
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    let head = Markup::empty("meta", &[("charset", &"utf-8")])
        .and(Markup::empty("meta", &[("http-equiv", &"Content-Security-Policy"), ("content", &policy)]))
        .and(Markup::empty("meta", &[("name", &"viewport"), ("content", &"width=device-width, initial-scale=1")]))
        .and(tag("title", Markup::text(title)))
        .and(tag("style", Markup::fixed(style)));
    let html = Markup::element("html", &[("lang", &"en")], tag("head", head).and(tag("body", body)));
    format!("<!DOCTYPE html>\n{}\n", html.0)
}

fn open(name: &'static str, attributes: &[(&'static str, &dyn Display)]) -> String {
    let mut markup = format!("<{name}");
    for (attribute, value) in attributes {
        let _ = write!(markup, " {attribute}=\"{}\"", escape(&value.to_string()));
    }
    markup
}

/// Text that stays text, between tags and inside quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            c if hides(c) => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_wherever_it_stands() {
        let hostile = "</td><script>alert('\"')</script>\u{202e}\u{1b}[2J&amp;";
        let shown = "&lt;/td&gt;&lt;script&gt;alert(&#39;&quot;&#39;)&lt;/script&gt;\u{fffd}\u{fffd}[2J&amp;amp;";
        assert_eq!(tag("td", Markup::text(hostile)).0, format!("<td>{shown}</td>"));
        assert_eq!(Markup::empty("path", &[("d", &hostile)]).0, format!("<path d=\"{shown}\"/>"));
        let whole = page(hostile, "", paragraph(hostile));
        assert_eq!(whole.matches("<script").count(), 0);
        assert_eq!(whole.matches(shown).count(), 2);
    }
}
