//! Commands: scripts that are tracked, and those that are told.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use super::{
    Translator,
    tree::{Node, Word},
};
use crate::{
    config::Problem,
    import::{
        document::{Table, command, quoted},
        report::Directive as _,
    },
};

/// Nobody but the owner of a file may write it.
const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

pub(super) fn set_fifo(daemon: &mut Table, path: &Word) {
    daemon.set("notify_fifo", quoted(&path.text), path.span.clone());
}

/// Which key of `notify` a word of keepalived's is.
pub(super) fn key_of(word: &str) -> Option<&'static str> {
    Some(match word {
        "notify_master" => "owner",
        "notify_backup" => "backup",
        "notify_fault" => "fault",
        "notify_stop" => "stop",
        "notify" => "any",
        _ => return None,
    })
}

impl Translator<'_> {
    /// The program and arguments that words stand for: one in quotes is split, as by a shell but without one.
    pub(super) fn command(&mut self, node: &Node, words: &[Word]) -> Option<Vec<String>> {
        let command = match words {
            [] => {
                self.argument(node);
                return None;
            }
            // What is quoted inside the quotes is quoted for the words in there.
            [one] => shlex::split(&one.text.replace("\\\"", "\"")),
            words => Some(words.iter().map(|word| word.text.clone()).collect()),
        };
        let problem = match &command {
            Some(words) if words.first().is_some_and(|program| !program.is_empty()) => return command,
            Some(_) => Problem::at(node.span(), format!("`{}` is empty", node.key())),
            None => {
                Problem::at(words[0].span.clone(), format!("`{}` has a quote without its other", node.key()))
            }
        };
        self.findings.problem(problem.expected("a program and its arguments"));
        None
    }

    /// Sets `user` to whom keepalived runs a script as: `given`, the global one, or its default.
    pub(super) fn user(&mut self, table: &mut Table, given: Option<&Word>, command: &[String], node: &Node) {
        let user = given.or(self.globals.script_user.as_ref()).cloned();
        let name = if let Some(user) = &user {
            table.set("user", quoted(&user.text), user.span.clone());
            user.text.clone()
        } else {
            let name = self.facts.script_user();
            let comment = "keepalived's default; \"nobody\" will do for most";
            table.explain("user", quoted(name), node.span(), comment);
            name.to_owned()
        };
        if let Some(path) = command.first().filter(|_| self.globals.security && name == "root")
            && let Some(place) = writable_by_others(Path::new(path))
        {
            self.findings.differs(
                node.span(),
                format!("keepalived refuses to run {path} as root: others may write {place}"),
                "`enable_script_security` says so, and lb does not look: change its owner or mode",
            );
        }
    }

    /// `notify_master "/path arguments" [user [group]]`, into `[….notify]`.
    pub(super) fn notify(&mut self, table: &mut Table, header: &'static str, node: &Node) {
        let Some(key) = key_of(node.key()) else { return };
        let (words, user) = match node.arguments() {
            [command, user @ ..] if command.is_quoted || user.len() <= 2 => {
                (std::slice::from_ref(command), user.first())
            }
            words => (words, None),
        };
        let Some(words) = self.command(node, words) else { return };
        let is_first = !table.has_child(header);
        let notify = table.child(header, node.span());
        if notify.has(key) {
            self.findings.unsupported(
                node,
                format!("there is one command for `{key}`, the first; call both from one script"),
            );
            return;
        }
        notify.set(key, command(&words), node.span());
        let before = notify.value("user").map(|(user, _)| user.to_owned());
        let mut of_user = Table::new("", node.span());
        self.user(&mut of_user, user, &words, node);
        match (of_user.value("user"), before) {
            (Some((user, at)), None) if is_first => notify.set("user", user, at),
            (Some((user, _)), Some(before)) if user != before => {
                let message = format!("runs as {before}, not as {user}");
                self.findings.differs(
                    node.span(),
                    message,
                    "the commands of one virtual router have one `user`, the first's",
                );
            }
            _ => {}
        }
        self.findings.translated(node, format!("notify.{key}"));
    }
}

/// The first part of an absolute path that others than root may change.
fn writable_by_others(path: &Path) -> Option<String> {
    if !path.is_absolute() {
        return None;
    }
    let is_open = |part: &&Path| {
        fs::symlink_metadata(part).is_ok_and(|metadata| {
            let mode = metadata.mode();
            metadata.uid() != 0 || (!metadata.is_symlink() && mode & OTHERS_WRITE != 0 && mode & STICKY == 0)
        })
    };
    path.ancestors().find(is_open).map(|part| part.display().to_string())
}
