//! Expressions over channels, compiled once and evaluated without allocation.
//!
//! ```text
//! test    = sum [ ( < | <= | > | >= | == | != ) sum ]       1 if it holds, else 0
//! sum     = product { ( + | - ) product }
//! product = sign { ( * | / | % ) sign }
//! sign    = ( - | + ) sign | power
//! power   = value [ ^ sign ]                                -2^2 = -4, 2^3^2 = 2^9
//! value   = number | channel | `channel` | pi | function ( test { , test } ) | ( test )
//! ```
//! A channel is written as it is called, with its dots: letters, digits, `_`, `.` and `:`, a letter or `_`
//! first. Any other name stands in backticks. Numbers are decimal, `0.5`, `1e-3`.
//!
//! Invariants: no text panics; text and nesting are bounded, and with them the stack that evaluation needs,
//! so that this is an array; a fault says at which character it is.
//! Deliberately absent: assignments, texts, anything that remembers an earlier sample.

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

use super::functions::{FUNCTIONS, Function};
use crate::limits::{EXPRESSION_BYTES_MAX, EXPRESSION_INPUTS_MAX, EXPRESSION_NESTING_MAX};

/// What evaluation may have on its stack: at each level of nesting two arguments of a function wait, and the
/// left sides of a test, a sum and a product; the last level puts one value on top.
const STACK_MAX: usize = 5 * EXPRESSION_NESTING_MAX + 1;

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// At which character, from 1.
    at: usize,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.at, self.what)
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Number(f64),
    Input(usize),
    One(fn(f64) -> f64),
    Two(fn(f64, f64) -> f64),
    Three(fn(f64, f64, f64) -> f64),
}

fn test(holds: bool, a: f64, b: f64) -> f64 {
    match (a.is_nan() || b.is_nan(), holds) {
        (true, _) => f64::NAN,
        (false, true) => 1.0,
        (false, false) => 0.0,
    }
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    ops: Vec<Op>,
    inputs: Vec<String>,
}

impl Expression {
    /// Compiles `text`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(super) fn new(text: &str) -> Result<Self, Fault> {
        if text.len() > EXPRESSION_BYTES_MAX {
            let what = format!("{} bytes, at most {EXPRESSION_BYTES_MAX} are possible", text.len());
            return Err(Fault { at: 1, what });
        }
        let mut parser = Parser {
            text,
            rest: text.char_indices().peekable(),
            nesting: 0,
            made: Self { ops: Vec::new(), inputs: Vec::new() },
        };
        parser.test()?;
        match parser.peek() {
            None => {}
            Some(')') => return Err(parser.fault("there is no `(` to this `)`")),
            Some(c) => return Err(parser.fault(format!("an operator or the end is expected, not `{c}`"))),
        }
        Ok(parser.made)
    }

    /// The channels that it names, each once, the first first.
    pub(super) fn inputs(&self) -> &[String] {
        &self.inputs
    }

    /// Its value; `inputs` has one for each of [`Self::inputs`].
    pub(super) fn value(&self, inputs: &[f64]) -> f64 {
        let (mut stack, mut top) = ([0.0_f64; STACK_MAX], 0);
        for op in &self.ops {
            let value = match *op {
                Op::Number(number) => number,
                Op::Input(index) => inputs[index],
                Op::One(f) => {
                    top -= 1;
                    f(stack[top])
                }
                Op::Two(f) => {
                    top -= 2;
                    f(stack[top], stack[top + 1])
                }
                Op::Three(f) => {
                    top -= 3;
                    f(stack[top], stack[top + 1], stack[top + 2])
                }
            };
            stack[top] = value;
            top += 1;
        }
        debug_assert_eq!(top, 1, "a compiled expression leaves one value");
        stack[0]
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
    nesting: usize,
    made: Expression,
}

type Parsed = Result<(), Fault>;

impl<'a> Parser<'a> {
    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        while self.rest.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        self.rest.peek().map(|&(_, c)| c)
    }

    fn offset(&mut self) -> usize {
        self.rest.peek().map_or(self.text.len(), |&(offset, _)| offset)
    }

    fn fault_at(&self, offset: usize, what: impl Into<String>) -> Fault {
        Fault { at: self.text[..offset].chars().count() + 1, what: what.into() }
    }

    fn fault(&mut self, what: impl Into<String>) -> Fault {
        self.peek();
        let offset = self.offset();
        self.fault_at(offset, what)
    }

    /// Takes `c` if it comes next.
    fn take(&mut self, c: char) -> bool {
        self.peek() == Some(c) && self.rest.next().is_some()
    }

    /// Takes characters for as long as they belong.
    fn run(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let start = self.offset();
        while self.rest.next_if(|&(_, c)| belongs(c)).is_some() {}
        let end = self.offset();
        &self.text[start..end]
    }

    fn push(&mut self, op: Op) {
        self.made.ops.push(op);
    }

    fn test(&mut self) -> Parsed {
        self.sum()?;
        let Some(first @ ('<' | '>' | '=' | '!')) = self.peek() else { return Ok(()) };
        let start = self.offset();
        self.rest.next();
        let or_equal = self.rest.next_if(|&(_, c)| c == '=').is_some();
        let op: fn(f64, f64) -> f64 = match (first, or_equal) {
            ('<', false) => |a, b| test(a < b, a, b),
            ('<', true) => |a, b| test(a <= b, a, b),
            ('>', false) => |a, b| test(a > b, a, b),
            ('>', true) => |a, b| test(a >= b, a, b),
            ('=', true) => |a, b| test(a == b, a, b),
            ('!', true) => |a, b| test(a != b, a, b),
            _ => return Err(self.fault_at(start, "a comparison is `<`, `<=`, `>`, `>=`, `==` or `!=`")),
        };
        self.sum()?;
        self.push(Op::Two(op));
        Ok(())
    }

    fn sum(&mut self) -> Parsed {
        self.product()?;
        loop {
            let op: fn(f64, f64) -> f64 = match self.peek() {
                Some('+') => |a, b| a + b,
                Some('-') => |a, b| a - b,
                _ => return Ok(()),
            };
            self.rest.next();
            self.product()?;
            self.push(Op::Two(op));
        }
    }

    fn product(&mut self) -> Parsed {
        self.sign()?;
        loop {
            let op: fn(f64, f64) -> f64 = match self.peek() {
                Some('*') => |a, b| a * b,
                Some('/') => |a, b| a / b,
                Some('%') => |a, b| a % b,
                _ => return Ok(()),
            };
            self.rest.next();
            self.sign()?;
            self.push(Op::Two(op));
        }
    }

    /// Everything that nests passes here.
    fn sign(&mut self) -> Parsed {
        if self.nesting >= EXPRESSION_NESTING_MAX {
            let what = format!("nested deeper than {EXPRESSION_NESTING_MAX} levels; name a part of it as a channel");
            return Err(self.fault(what));
        }
        self.nesting += 1;
        if self.take('-') {
            self.sign()?;
            self.push(Op::One(|a| -a));
        } else if self.take('+') {
            self.sign()?;
        } else {
            self.power()?;
        }
        self.nesting -= 1;
        Ok(())
    }

    fn power(&mut self) -> Parsed {
        self.operand()?;
        if self.take('^') {
            self.sign()?;
            self.push(Op::Two(f64::powf));
        }
        Ok(())
    }

    fn operand(&mut self) -> Parsed {
        match self.peek() {
            None => Err(self.fault("a number, a channel or `(` is expected, not the end")),
            Some('(') => {
                let start = self.offset();
                self.rest.next();
                self.test()?;
                self.closing(start)
            }
            Some('`') => {
                let start = self.offset();
                self.rest.next();
                let name = self.run(|c| c != '`');
                if self.rest.next().is_none() {
                    return Err(self.fault_at(start, "there is no second backtick to this one"));
                }
                self.channel(start, name)
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_alphabetic() || c == '_' => self.name(),
            Some(c) => Err(self.fault(format!("a number, a channel or `(` is expected, not `{c}`"))),
        }
    }

    fn closing(&mut self, opened_at: usize) -> Parsed {
        if self.take(')') {
            return Ok(());
        }
        match self.peek() {
            None => Err(self.fault_at(opened_at, "there is no `)` to this `(`")),
            Some(c) => Err(self.fault(format!("`)` or an operator is expected, not `{c}`"))),
        }
    }

    fn number(&mut self) -> Parsed {
        let start = self.offset();
        self.run(|c| c.is_ascii_digit() || c == '.');
        if self.rest.next_if(|&(_, c)| matches!(c, 'e' | 'E')).is_some() {
            let _ = self.rest.next_if(|&(_, c)| matches!(c, '+' | '-'));
        }
        // What sticks to a number is a part of it, so that `2x` is a fault and not a 2.
        self.run(|c| c.is_alphanumeric() || matches!(c, '.' | '_'));
        let end = self.offset();
        let text = &self.text[start..end];
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => self.push(Op::Number(number)),
            _ => return Err(self.fault_at(start, format!("`{text}` is no number"))),
        }
        Ok(())
    }

    fn name(&mut self) -> Parsed {
        let start = self.offset();
        let name = self.run(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | ':'));
        if self.peek() == Some('(') {
            return self.call(start, name);
        }
        if name == "pi" {
            self.push(Op::Number(std::f64::consts::PI));
            return Ok(());
        }
        if FUNCTIONS.iter().any(|(known, _)| *known == name) {
            let what = format!("`{name}` is a function and needs `(`; a channel of this name stands in backticks");
            return Err(self.fault_at(start, what));
        }
        self.channel(start, name)
    }

    fn channel(&mut self, start: usize, name: &str) -> Parsed {
        if name.is_empty() {
            return Err(self.fault_at(start, "a channel has no empty name"));
        }
        let known = self.made.inputs.iter().position(|known| known == name);
        if known.is_none() && self.made.inputs.len() >= EXPRESSION_INPUTS_MAX {
            let what = format!("more than {EXPRESSION_INPUTS_MAX} channels; name a part of it as a channel");
            return Err(self.fault_at(start, what));
        }
        let index = known.unwrap_or_else(|| {
            self.made.inputs.push(name.to_owned());
            self.made.inputs.len() - 1
        });
        self.push(Op::Input(index));
        Ok(())
    }

    fn call(&mut self, start: usize, name: &str) -> Parsed {
        let Some((_, function)) = FUNCTIONS.iter().find(|(known, _)| *known == name) else {
            let all: Vec<&str> = FUNCTIONS.iter().map(|(known, _)| *known).collect();
            let what = format!("there is no function `{name}`; there are {}", all.join(", "));
            return Err(self.fault_at(start, what));
        };
        let opened_at = self.offset();
        self.rest.next();
        let mut given = 0_usize;
        if self.peek() != Some(')') {
            loop {
                self.test()?;
                given += 1;
                // Two at a time, so that the stack does not grow with the arguments.
                if let (Function::Many(f), true) = (*function, given > 1) {
                    self.push(Op::Two(f));
                }
                if !self.take(',') {
                    break;
                }
            }
        }
        self.closing(opened_at)?;
        let (op, takes) = match *function {
            Function::One(f) => (Some(Op::One(f)), 1),
            Function::Two(f) => (Some(Op::Two(f)), 2),
            Function::Three(f) => (Some(Op::Three(f)), 3),
            Function::Many(_) => (None, given.max(2)),
        };
        if given != takes {
            let more = if matches!(function, Function::Many(_)) { " or more" } else { "" };
            return Err(self.fault_at(start, format!("`{name}` takes {takes}{more} values, not {given}")));
        }
        op.into_iter().for_each(|op| self.push(op));
        Ok(())
    }
}

#[cfg(test)]
#[path = "expression_tests.rs"]
mod tests;
