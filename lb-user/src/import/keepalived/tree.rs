//! Statements and blocks, with their places.

use std::{mem, ops::Range};

use super::lexer::Token;
use crate::{
    config::Problem,
    import::report::{Directive, Findings},
};

/// keepalived's own blocks are five deep.
const MOST_BLOCKS: usize = 16;
/// A configuration of a thousand virtual servers has some tens of thousands.
const MOST_STATEMENTS: usize = 500_000;
/// Twice as many as there can be services and virtual routers.
const MOST_AT_TOP: usize = 10_000;
/// As much of a statement as reports show, in characters.
const SHOWN: usize = 72;

/// A word with its place; without its quotes, if it had any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) span: Range<usize>,
    pub(super) is_quoted: bool,
}

/// A statement, with its block if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Never empty.
    pub(super) words: Vec<Word>,
    pub(super) block: Option<Vec<Node>>,
}

impl Node {
    /// The first word.
    pub(super) fn key(&self) -> &str {
        self.words.first().map_or("", |word| &word.text)
    }

    /// The words after the first.
    pub(super) fn arguments(&self) -> &[Word] {
        self.words.get(1..).unwrap_or_default()
    }

    /// The first word after the key.
    pub(super) fn argument(&self) -> Option<&Word> {
        self.words.get(1)
    }

    /// The statements in its block.
    pub(super) fn children(&self) -> &[Node] {
        self.block.as_deref().unwrap_or_default()
    }
}

impl Directive for Node {
    fn span(&self) -> Range<usize> {
        span(&self.words)
    }

    fn words(&self) -> String {
        if ["auth_pass", "auth_hmac", "hmac_key", "password"].contains(&self.key()) {
            return format!("{} …", self.key());
        }
        let words: Vec<&str> = self.words.iter().map(|word| word.text.as_str()).collect();
        let mut shown: String = words.join(" ").chars().take(SHOWN + 1).collect();
        if shown.chars().count() > SHOWN {
            shown.pop();
            shown.push('…');
        }
        shown.replace(|c: char| c.is_control(), "?")
    }
}

/// From the first word to the last, or the first alone where an expansion has brought them together.
fn span(words: &[Word]) -> Range<usize> {
    let first = words.first().map_or(0..0, |word| word.span.clone());
    let end = words.last().map_or(0, |word| word.span.end);
    let is_one_line = end > first.start && end - first.start < 4_096;
    if is_one_line { first.start..end } else { first }
}

/// Makes a tree of tokens.
#[derive(Default)]
pub(super) struct Builder {
    /// The blocks that are open, outermost first, each with what it has so far.
    open: Vec<(Node, Range<usize>, Vec<Node>)>,
    top: Vec<Node>,
    words: Vec<Word>,
    statements: usize,
    is_too_long: bool,
}

impl Builder {
    /// Takes the tokens of a line.
    pub(super) fn line(&mut self, tokens: Vec<Token>, findings: &mut Findings) {
        for token in tokens {
            if self.is_too_long {
                return;
            }
            match token {
                Token::Word(word) => self.words.push(word),
                Token::Open(span) => self.open(span, findings),
                Token::Close(span) => self.close(span, findings),
            }
        }
        self.end_statement(findings);
    }

    /// Whether nothing more is taken.
    pub(super) fn is_full(&self) -> bool {
        self.is_too_long
    }

    fn nodes(&mut self) -> &mut Vec<Node> {
        match self.open.last_mut() {
            Some((_, _, nodes)) => nodes,
            None => &mut self.top,
        }
    }

    fn end_statement(&mut self, findings: &mut Findings) {
        if self.words.is_empty() {
            return;
        }
        let words = mem::take(&mut self.words);
        if self.count(&words, findings) {
            self.nodes().push(Node { words, block: None });
        }
    }

    /// Whether there is room for one more.
    fn count(&mut self, words: &[Word], findings: &mut Findings) -> bool {
        self.statements += 1;
        let what = if self.statements > MOST_STATEMENTS {
            format!("more than {MOST_STATEMENTS} directives")
        } else if self.top.len() > MOST_AT_TOP {
            format!("more than {MOST_AT_TOP} directives outside of blocks")
        } else {
            return true;
        };
        if !mem::replace(&mut self.is_too_long, true) {
            findings.problem(Problem::at(span(words), what).help("is this the right file?"));
        }
        false
    }

    fn open(&mut self, span: Range<usize>, findings: &mut Findings) {
        if self.open.len() == MOST_BLOCKS {
            findings.problem(
                Problem::at(span.clone(), format!("more than {MOST_BLOCKS} blocks inside each other"))
                    .help("a closing brace is missing somewhere before"),
            );
            self.is_too_long = true;
        }
        let node = if self.words.is_empty() {
            // The brace may stand in the line after its block's words.
            self.nodes().pop_if(|last| last.block.is_none())
        } else {
            let words = mem::take(&mut self.words);
            if !self.count(&words, findings) {
                return;
            }
            Some(Node { words, block: None })
        };
        let Some(node) = node else {
            findings.problem(
                Problem::at(span.clone(), "a block without a name")
                    .expected("a word before the brace, such as vrrp_instance VI_1"),
            );
            let word = Word { text: String::new(), span: span.clone(), is_quoted: false };
            self.open.push((Node { words: vec![word], block: None }, span, Vec::new()));
            return;
        };
        self.open.push((node, span, Vec::new()));
    }

    fn close(&mut self, span: Range<usize>, findings: &mut Findings) {
        self.end_statement(findings);
        match self.open.pop() {
            Some((mut node, _, nodes)) => {
                node.block = Some(nodes);
                self.nodes().push(node);
            }
            None => findings.problem(
                Problem::at(span, "a closing brace too many")
                    .help("no block is open here; one before may have been closed twice"),
            ),
        }
    }

    /// The tree; blocks that are still open are noted, and closed.
    pub(super) fn finish(mut self, findings: &mut Findings) -> Vec<Node> {
        self.end_statement(findings);
        let is_too_long = self.is_too_long;
        while let Some((mut node, span, nodes)) = self.open.pop() {
            if !is_too_long {
                findings.problem(
                    Problem::at(
                        span,
                        format!("the block of `{}` is never closed", node.key().escape_debug()),
                    )
                    .expected("a closing brace")
                    .help("count the braces from here on"),
                );
            }
            node.block = Some(nodes);
            self.nodes().push(node);
        }
        self.top
    }
}
