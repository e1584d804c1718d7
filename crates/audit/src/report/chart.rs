//! A budget as a picture: what was spent or reserved after each entry of the log, against what may be.
//!
//! Steps, because an account changes at entries and not between them. Along the bottom stands the log's own order, which
//! nobody's clock can bend; a few of its entries are dated, by their authors' clocks. Nodes whose accounts went alike
//! (most do: every node pays for every question) share a line, and every line has its own dashes as well as its colour,
//! so that a print without colour can be read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cohortium_messages::{Name, Timestamp};

use crate::markup::Markup;

/// The picture's size in its own units, and the room for its labels.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;

/// Colours that people with any colour vision tell apart (Okabe and Ito 2008), and dashes.
const LINES: [(&str, &str); 7] = [
    ("#0072b2", "none"),
    ("#d55e00", "7 3"),
    ("#009e73", "2 3"),
    ("#cc79a7", "9 3 2 3"),
    ("#56b4e9", "4 2"),
    ("#e69f00", "12 4"),
    ("#000000", "1 4"),
];

/// A line of the picture: nodes whose accounts went alike.
struct Line<'a> {
    nodes: Vec<&'a Name>,
    /// Index in the log, and ε after that entry.
    steps: &'a [(u64, f64)],
}

/// One budget at all nodes.
pub(crate) struct Chart<'a> {
    /// What may be spent.
    pub cap: f64,
    /// Entries of the log that are dated along the bottom: index and time.
    pub dates: &'a [(u64, Timestamp)],
    /// How many entries the log has.
    pub size: u64,
    /// For each node, ε after entries of the log, in their order.
    pub spent: &'a [(Name, Vec<(u64, f64)>)],
}

impl Chart<'_> {
    /// The picture with its legend.
    pub(crate) fn draw(&self) -> Markup {
        let lines = self.lines();
        let paths = lines.iter().zip(LINES.iter().cycle()).map(|(Line { steps, .. }, (colour, dashes))| {
            let d = self.path(steps);
            Markup::empty(
                "path",
                &[
                    ("d", &d),
                    ("fill", &"none"),
                    ("stroke", colour),
                    ("stroke-width", &"2"),
                    ("stroke-dasharray", dashes),
                ],
            )
        });
        let content = self.axes().and(self.cap_line()).and(paths.collect());
        let view = format!("0 0 {WIDTH} {HEIGHT}");
        let label = "privacy spent after each entry of the log, at each node, against what may be spent";
        let picture = Markup::element("svg", &[("viewBox", &view), ("role", &"img"), ("aria-label", &label)], content);
        picture.and(legend(&lines))
    }

    /// Lines that differ, each with the nodes whose account it is.
    fn lines(&self) -> Vec<Line<'_>> {
        let mut lines: Vec<Line<'_>> = Vec::new();
        // Only the heights are compared: nodes log one after the other.
        let mut drawn: BTreeMap<Vec<u64>, usize> = BTreeMap::new();
        for (node, steps) in self.spent {
            let heights: Vec<u64> = steps.iter().map(|(_, epsilon)| epsilon.to_bits()).collect();
            let next = lines.len();
            match lines.get_mut(*drawn.entry(heights).or_insert(next)) {
                Some(line) => line.nodes.push(node),
                None => lines.push(Line { nodes: vec![node], steps }),
            }
        }
        lines
    }

    fn path(&self, steps: &[(u64, f64)]) -> String {
        let mut d = format!("M{} {}", round(self.x(0)), round(self.y(0.0)));
        let mut last = (String::new(), String::new());
        for (index, epsilon) in steps {
            // Steps that would be drawn on one spot are drawn once: the picture has a size, the log has none.
            let at = (round(self.x(*index)), round(self.y(*epsilon)));
            if at != last {
                let _ = write!(d, "H{}V{}", at.0, at.1);
                last = at;
            }
        }
        let _ = write!(d, "H{}", round(self.x(self.size)));
        d
    }

    fn axes(&self) -> Markup {
        let mut axes = Markup::default();
        for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let y = self.y(self.scale() * part);
            axes = axes.and(line((LEFT, y), (WIDTH - RIGHT, y), "#d9d9d9", "none"));
            axes = axes.and(label(LEFT - 6.0, y + 4.0, "end", &short(self.scale() * part)));
        }
        for (position, (index, time)) in self.dates.iter().enumerate() {
            let x = self.x(*index);
            let anchor = match position {
                0 => "start",
                _ if position + 1 == self.dates.len() => "end",
                _ => "middle",
            };
            axes = axes.and(line((x, HEIGHT - BOTTOM), (x, HEIGHT - BOTTOM + 4.0), "#666666", "none"));
            axes = axes.and(label(x, HEIGHT - BOTTOM + 16.0, anchor, &format!("entry {index}")));
            let day: String = time.to_string().chars().take(16).collect::<String>().replace('T', " ");
            axes = axes.and(label(x, HEIGHT - BOTTOM + 30.0, anchor, &day));
        }
        axes.and(label(4.0, 11.0, "start", "\u{3b5}"))
    }

    fn cap_line(&self) -> Markup {
        if self.scale() < self.cap {
            let text = format!("may be spent: {}, far above this picture", short(self.cap));
            return label(WIDTH - RIGHT, TOP - 3.0, "end", &text);
        }
        let y = self.y(self.cap);
        line((LEFT, y), (WIDTH - RIGHT, y), "#b00020", "6 4").and(label(
            WIDTH - RIGHT,
            y - 4.0,
            "end",
            &format!("may be spent: {}", short(self.cap)),
        ))
    }

    /// The ε of the highest line across: the cap, or where hardly any of it is spent, a round number above what is.
    /// Nobody who is believed is above the cap.
    fn scale(&self) -> f64 {
        let all = self.spent.iter().flat_map(|(_, steps)| steps);
        let highest = all.map(|(_, epsilon)| *epsilon).fold(0.0, f64::max);
        let rounds = (-3..6).flat_map(|power| [1.0, 2.0, 4.0].map(|digit| digit * 10_f64.powi(power)));
        let fits = |round: &f64| highest > 0.0 && *round >= highest * 1.1 && *round < self.cap / 2.0;
        rounds.into_iter().find(fits).unwrap_or(self.cap)
    }

    fn top(&self) -> f64 {
        if self.cap > 0.0 { self.scale() * 1.08 } else { 1.0 }
    }

    fn x(&self, index: u64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (index as f64 / self.size.max(1) as f64).min(1.0)
    }

    fn y(&self, epsilon: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (epsilon / self.top()).clamp(0.0, 1.0)
    }
}

/// At most four entries of the log, spread over it, with their authors' times.
pub(crate) fn dated(times: &[Timestamp]) -> Vec<(u64, Timestamp)> {
    let last = times.len().saturating_sub(1);
    let mut picked: Vec<usize> = (0..=3).map(|third| last * third / 3).collect();
    picked.dedup();
    picked.into_iter().filter_map(|index| Some((index as u64, *times.get(index)?))).collect()
}

fn legend(lines: &[Line<'_>]) -> Markup {
    let entries = lines.iter().zip(LINES.iter().cycle()).map(|(Line { nodes, .. }, (colour, dashes))| {
        let stroke = Markup::empty(
            "path",
            &[("d", &"M0 6H34"), ("stroke", colour), ("stroke-width", &"3"), ("stroke-dasharray", dashes)],
        );
        let swatch = Markup::element("svg", &[("class", &"swatch"), ("viewBox", &"0 0 34 12")], stroke);
        let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        Markup::element("span", &[("class", &"key")], swatch.and(Markup::text(format!(" {}", names.join(", ")))))
    });
    Markup::element("p", &[("class", &"legend")], entries.collect())
}

fn line(from: (f64, f64), to: (f64, f64), colour: &'static str, dashes: &'static str) -> Markup {
    let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(round);
    let attributes: [(&'static str, &dyn std::fmt::Display); 6] =
        [("x1", &x1), ("y1", &y1), ("x2", &x2), ("y2", &y2), ("stroke", &colour), ("stroke-dasharray", &dashes)];
    Markup::empty("line", &attributes)
}

fn label(x: f64, y: f64, anchor: &'static str, text: &str) -> Markup {
    let (x, y) = (round(x), round(y));
    Markup::element("text", &[("x", &x), ("y", &y), ("text-anchor", &anchor), ("font-size", &"11")], Markup::text(text))
}

/// A coordinate to a tenth of a unit, always in the same digits.
fn round(coordinate: f64) -> String {
    format!("{coordinate:.1}")
}

/// ε for people.
pub(crate) fn short(epsilon: f64) -> String {
    if epsilon >= 100.0 { format!("{epsilon:.0}") } else { format!("{epsilon:.3}") }
}
