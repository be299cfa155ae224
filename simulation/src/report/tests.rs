use super::*;

#[test]
fn the_report_stands_alone_and_has_all_figures() {
    // CONSILIUM_REPORT_SAMPLE=dir keeps the sample report there, for looking at it.
    let kept = std::env::var_os("CONSILIUM_REPORT_SAMPLE").map(PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let out = kept.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&out).unwrap();
    let story = sample::story(if kept.is_some() { 4096 } else { 2048 });
    let path = write_report(&out, &story).unwrap();
    let page = std::fs::read_to_string(path).unwrap();
    for outside in ["src=\"http", "href=\"http", "url(", "@import", "<script", "<link"] {
        assert!(!page.contains(outside), "the report refers to something outside: {outside}");
    }
    for word in ["lakeside", "kingsford (central)", "Spearman", "consilium-simulate --seed 7", "plan.toml"] {
        assert!(page.contains(word), "{word} is missing");
    }
    for figure in ["dice-by-round", "uncertainty-against-dice", "time-by-stage", "patches"] {
        let png = image::open(out.join(format!("figures/{figure}.png"))).unwrap();
        assert!(png.width() >= 1500, "{figure} is {} px wide", png.width());
    }
}

#[test]
fn names_from_data_cannot_break_the_page() {
    let mut story = sample::story(1024);
    story.plan.title = "<script>alert(1)</script>".into();
    story.command = "consilium-simulate run --data '<b>'".into();
    let temporary = tempfile::tempdir().unwrap();
    let page = std::fs::read_to_string(write_report(temporary.path(), &story).unwrap()).unwrap();
    assert!(!page.contains("<script>") && !page.contains("'<b>'"));
}

#[test]
fn an_experiment_without_results_still_gives_a_report() {
    let mut story = sample::story(1024);
    story.metrics.generations.clear();
    story.metrics.patches.clear();
    story.patches.clear();
    story.timing = crate::experiment::Timing::default();
    let temporary = tempfile::tempdir().unwrap();
    let page = std::fs::read_to_string(write_report(temporary.path(), &story).unwrap()).unwrap();
    assert!(page.contains("no Dice to report"));
    assert!(!temporary.path().join("figures/patches.png").exists());
}
