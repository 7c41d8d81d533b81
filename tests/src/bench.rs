//! Times commands against one another: in one run, in turns, on tmpfs.
//!
//! Numbers of different runs or machines say little; ratios within one run do. A benchmark runs in a node
//! of its own ([`in_node`]), so that peers with daemons and databases find a clean machine and leave none
//! of theirs behind, and times whole processes as a user would.

use std::env;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{Kind, Node, Status, terminal};

/// Set in the copy of a benchmark that runs in the node.
const INSIDE: &str = "RKT_BENCH_INSIDE";

/// One command in a contest.
pub struct Contender {
    label: String,
    before: Command,
    command: Command,
}

impl Contender {
    /// A contender that runs `command`.
    ///
    /// # Errors
    ///
    /// When the command is empty.
    pub fn new(label: &str, command: &[&str]) -> Result<Self> {
        Ok(Self { label: label.to_owned(), before: quiet(&["true"])?, command: quiet(command)? })
    }

    /// The same, with a shell script that runs before every round and is not timed.
    ///
    /// # Errors
    ///
    /// Never, as things are.
    pub fn after(self, script: &str) -> Result<Self> {
        Ok(Self { before: quiet(&["bash", "-euc", script])?, ..self })
    }

    /// Runs it once.
    fn time(&mut self) -> Result<Duration> {
        succeed(&mut self.before).with_context(|| format!("cannot prepare a round of {}", self.label))?;
        let begin = Instant::now();
        succeed(&mut self.command).with_context(|| format!("{} failed", self.label))?;
        Ok(begin.elapsed())
    }
}

/// Runs the contenders in turns, a round to warm up and then `rounds` more, and prints the table. The
/// first is the one that the ratios in it refer to. Returns the medians, in milliseconds and in order.
///
/// # Errors
///
/// When a contender fails.
pub fn contest(title: &str, rounds: u32, mut contenders: Vec<Contender>) -> Result<Vec<f64>> {
    for contender in &mut contenders {
        let _ = contender.time()?;
    }
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            times.push(contender.time()?);
        }
    }
    let rows: Vec<Row> = contenders.iter().zip(times).map(|(c, times)| Row::new(&c.label, times)).collect();
    let mut text = format!("\n{title}, {rounds} rounds in turns\n{}", table(&rows));
    for contender in &contenders {
        let _ = writeln!(text, "  {}: {:?}", contender.label, contender.command);
    }
    say(&text)?;
    Ok(rows.iter().map(|r| r.median).collect())
}

/// One line of a table.
#[derive(Debug, Clone)]
struct Row {
    label: String,
    min: f64,
    median: f64,
}

impl Row {
    fn new(label: &str, mut times: Vec<Duration>) -> Self {
        times.sort();
        let millis = |n: usize| times.get(n).map_or(f64::NAN, |t| t.as_secs_f64() * 1e3);
        Self { label: label.to_owned(), min: millis(0), median: millis(times.len() / 2) }
    }
}

/// Minimum, median, and the median as a multiple of the first row's.
fn table(rows: &[Row]) -> String {
    let mut text = format!("  {:<28} {:>10} {:>10} {:>8}\n", "", "min ms", "median ms", "ratio");
    let base = rows.first().map_or(f64::NAN, |r| r.median);
    for Row { label, min, median } in rows {
        let _ = writeln!(text, "  {label:<28} {min:>10.1} {median:>10.1} {:>8.2}", median / base);
    }
    text
}

/// Prints on stdout, at once.
///
/// # Errors
///
/// When stdout is closed.
pub fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").and_then(|()| out.flush()).context("cannot print")
}

/// Runs `bench` in a node of its own: boots one, runs this same program in it with the same arguments,
/// and passes on what it prints. `prepare` runs first, on the machine, where the cache can be written.
///
/// # Errors
///
/// When there is no node, or the benchmark fails.
pub fn in_node(
    kind: Kind,
    prepare: impl FnOnce() -> Result<()>,
    bench: impl FnOnce() -> Result<()>,
) -> Result<ExitCode> {
    if env::var_os(INSIDE).is_some() {
        return bench().map(|()| ExitCode::SUCCESS);
    }
    prepare()?;
    let node = Node::boot(kind)?;
    let own = env::current_exe().context("cannot find this benchmark")?;
    let own = own.to_string_lossy();
    let command = node.command(&[&own]).env(INSIDE, "1").env("TMPDIR", "/tmp");
    match terminal::attach(command, false)? {
        Status::Exited(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        other => bail!("the benchmark ended by {other:?}"),
    }
}

/// Runs a command that must succeed, and returns its stdout.
///
/// # Errors
///
/// When it does not; the error has its stderr.
pub fn output(command: &[&str]) -> Result<String> {
    let (program, arguments) = command.split_first().context("no command")?;
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{command:?} failed ({}): {}", output.status, why.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn quiet(command: &[&str]) -> Result<Command> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut command = Command::new(program);
    let _ = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// Timed runs write nowhere; a failed one is run again to hear why.
fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if status.success() {
        return Ok(());
    }
    let again = command.stderr(Stdio::piped()).output().context("cannot run it again")?;
    bail!("{command:?} failed ({status}): {}", String::from_utf8_lossy(&again.stderr).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_refer_to_the_first_row() {
        let row = |label: &str, millis: [u64; 3]| Row::new(label, millis.map(Duration::from_millis).to_vec());
        let text = table(&[row("ours", [30, 10, 20]), row("theirs", [60, 20, 50])]);
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["ours", "10.0", "20.0", "1.00"]);
        assert_eq!(lines[2], ["theirs", "20.0", "50.0", "2.50"]);
    }
}
