//! What a person sees while an experiment runs: bars in a terminal, plain lines elsewhere. All on the error stream, so
//! that the output stream holds the result alone.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use consilium_common::SiteId;
use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::metrics::Metrics;

/// The screen, or the log that stands for it.
pub(crate) struct Console {
    bars: Option<MultiProgress>,
}

/// One stage of the run with a total.
pub(crate) struct StageBar {
    name: String,
    bar: ProgressBar,
    /// Where there is no terminal: when a line was last written.
    plain: Option<Mutex<Instant>>,
}

/// Without a terminal a stage is told of no more often.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// The sites while the study runs.
pub(crate) struct SiteBars {
    study: ProgressBar,
    sites: Vec<ProgressBar>,
    plain: bool,
    last: Mutex<String>,
}

impl Console {
    /// Bars if the error stream is a terminal.
    pub(crate) fn new() -> Self {
        Self { bars: std::io::stderr().is_terminal().then(MultiProgress::new) }
    }

    fn add(&self, total: u64, template: &str) -> ProgressBar {
        match &self.bars {
            None => ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden()),
            Some(bars) => {
                let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
                let bar = bars.add(ProgressBar::new(total).with_style(style.progress_chars("━╸ ")));
                bar.enable_steady_tick(Duration::from_millis(200));
                bar
            }
        }
    }

    /// Something that a person should know; the run goes on.
    pub(crate) fn warn(&self, what: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(format!("! {what}"))),
            None => eprintln!("! {what}"),
        }
    }

    /// Something good to know.
    pub(crate) fn note(&self, what: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(what)),
            None => eprintln!("{what}"),
        }
    }

    /// Begins a stage.
    pub(crate) fn stage(&self, name: &str, total: u64) -> StageBar {
        let plain = self.bars.is_none().then(|| Mutex::new(Instant::now()));
        if plain.is_some() {
            eprintln!("{name} ...");
        }
        let template = "{spinner} {msg:<36} {bar:28.cyan/dim} {pos}/{len}  {elapsed}, {eta} left";
        let bar = self.add(total, template);
        bar.set_message(name.to_owned());
        StageBar { name: name.to_owned(), bar, plain }
    }

    /// Begins the study: one line for it, one a site.
    pub(crate) fn study(&self, sites: &[SiteId], rounds: u32) -> SiteBars {
        let study = self.add(u64::from(rounds) * 2 + 1, "{spinner} {msg:<36} {bar:28.green/dim} {elapsed}");
        let line = |site: &SiteId| {
            let bar = self.add(1, "    {prefix:<16} {msg:<18} {bar:28.blue/dim}");
            bar.set_prefix(site.to_string());
            bar
        };
        let sites = sites.iter().map(line).collect();
        SiteBars { study, sites, plain: self.bars.is_none(), last: Mutex::new(String::new()) }
    }
}

impl StageBar {
    /// So many units were there before: they say nothing of the time that is left.
    pub(crate) fn skip(&self, units: u64) {
        self.bar.inc(units);
        self.bar.reset_eta();
    }

    /// So many units more are done.
    pub(crate) fn advance(&self, units: u64) {
        self.bar.inc(units);
        if let Some(Ok(mut last)) = self.plain.as_ref().map(Mutex::lock)
            && last.elapsed() >= BETWEEN_LINES
        {
            let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
            eprintln!("{}: {done} of {total}, about {} left", self.name, HumanDuration(self.bar.eta()));
            *last = Instant::now();
        }
    }

    /// The stage is over; one line stays.
    pub(crate) fn finish(&self, what: &str) {
        let seconds = self.bar.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        let line = format!("✓ {what} ({seconds:.0} s)");
        if self.plain.is_some() {
            eprintln!("{line}");
        } else {
            // A cleared bar still reaches its screen.
            self.bar.println(&line);
        }
    }
}

impl SiteBars {
    /// Where the study stands: a line for it, how far it is, and each site's stage.
    pub(crate) fn show(&self, status: &str, done: u64, sites: &[(String, u64, u64)]) {
        self.study.set_message(status.to_owned());
        self.study.set_position(done);
        for (bar, (what, done, total)) in self.sites.iter().zip(sites) {
            bar.set_message(what.clone());
            bar.set_length((*total).max(1));
            bar.set_position(*done);
        }
        if self.plain
            && let Ok(mut last) = self.last.lock()
            && *last != status
        {
            eprintln!("{status}");
            *last = status.to_owned();
        }
    }

    /// The study is over.
    pub(crate) fn finish(&self, what: &str) {
        self.sites.iter().for_each(ProgressBar::finish_and_clear);
        let seconds = self.study.elapsed().as_secs_f64();
        let line = format!("✓ {what} ({seconds:.0} s)");
        if self.plain {
            eprintln!("{line}");
        } else {
            self.study.println(&line);
        }
        self.study.finish_and_clear();
    }
}

/// The table of Dice by site and generation, as text.
pub fn dice_table(metrics: &Metrics) -> String {
    let width = metrics.sites.iter().map(|s| s.as_str().len() + 10).max().unwrap_or(12).max(24);
    let mut text = format!("{:<width$}", "Dice on held-out slides");
    for generation in &metrics.generations {
        text.push_str(&format!("  gen {:<2}", generation.generation));
    }
    text.push_str("  change\n");
    let mut row = |name: &str, values: Vec<Option<f64>>| {
        text.push_str(&format!("{name:<width$}"));
        for value in &values {
            text.push_str(&value.map_or("       –".to_owned(), |v| format!("  {v:6.3}")));
        }
        let change = values.first().copied().flatten().zip(values.last().copied().flatten());
        text.push_str(&change.map_or("       –".to_owned(), |(a, b)| format!("  {:+.3}", b - a)));
        text.push('\n');
    };
    let of = |site: &SiteId| metrics.generations.iter().map(|g| g.sites.get(site).copied()).collect();
    for site in metrics.sites.iter().filter(|s| **s != metrics.central) {
        row(site.as_str(), of(site));
    }
    row(&format!("mean of {}", metrics.mean_over.len()), metrics.generations.iter().map(|g| g.mean_dice).collect());
    row(&format!("{} (central)", metrics.central), of(&metrics.central));
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_lines_up() {
        let table = super::dice_table(&crate::report::sample::metrics());
        insta::assert_snapshot!(table);
    }
}
