//! What the parts of the HTML report share: style, and text made safe.

use crate::stats::Verdict;
use std::fmt::Write;

/// One style for light and dark, wide and narrow. Plots that plotters draws are black on white; a dark page inverts them.
pub const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#222;--paper:#fff;--quiet:#666;--rule:#ddd;--strong:#999;--link:#0a58a8;--box:#f6f6f6;\
--better:#cfeedd;--worse:#f9d0c4;--same:#efefef;--better-ink:#0a7a46;--worse-ink:#c0391b;--warn:#fff3cd}\
@media(prefers-color-scheme:dark){:root{--ink:#ddd;--paper:#161616;--quiet:#999;--rule:#333;--strong:#666;--link:#7db7f0;\
--box:#222;--better:#14452d;--worse:#5a2317;--same:#282828;--better-ink:#53c98d;--worse-ink:#f28a6c;--warn:#463a12}\
figure svg{filter:invert(.91) hue-rotate(180deg)}}\
*{box-sizing:border-box}\
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1500px;margin:1.5em auto;padding:0 1em}\
p,pre,figure,h1,summary{max-width:960px}\
h1{font-size:1.5em;margin-bottom:.2em}h2{font-size:1.2em;margin-top:1.8em;border-bottom:1px solid var(--rule);padding-bottom:.2em}\
h3{font-size:1.02em;margin:1em 0 .3em}table{border-collapse:collapse;margin:.6em 0;font-size:.92em}\
th,td{padding:.25em .7em;text-align:left;border-bottom:1px solid var(--rule);vertical-align:top}\
th{border-bottom:2px solid var(--strong)}td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
td.better,tr.better{background:var(--better)}td.worse,tr.worse{background:var(--worse)}\
td.no-difference,tr.no-difference{background:var(--same)}\
.quiet{color:var(--quiet);font-size:.92em}\
.warning{background:var(--warn);border-left:4px solid #e0a800;padding:.4em .8em;margin:.4em 0}\
details{margin:.5em 0}summary{cursor:pointer;color:var(--link)}pre{background:var(--box);padding:.7em;overflow-x:auto}\
.scroll{overflow-x:auto}figure{margin:1em 0;overflow-x:auto}figure svg{min-width:640px}figcaption{color:var(--quiet);font-size:.9em}\
table.matrix{font-size:12px;line-height:1.2;margin:0}\
.matrix td,.matrix th{padding:.05em .6em;white-space:nowrap;text-align:right;font-variant-numeric:tabular-nums}\
.matrix td{border-bottom:1px solid var(--paper)}\
.matrix tr>:first-child{text-align:left;position:sticky;left:0;background:var(--paper)}\
.matrix tr>:nth-child(2){text-align:left}.matrix tfoot td{border-top:2px solid var(--strong)}\
.matrix tr:hover td{outline:1px solid var(--strong)}\
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(340px,100%),1fr));gap:.3em 1.6em}\
.card{min-width:0}.card:has(details[open]){grid-column:1/-1}.card>svg{max-width:420px}\
svg.small{width:100%;height:auto;display:block;font-size:11px}.small text{fill:var(--ink)}.small .q{fill:var(--quiet)}\
.small .r{text-anchor:end}.small line{stroke:var(--strong);stroke-width:2}.small circle{fill:var(--strong)}\
.small .one{stroke:var(--ink);stroke-width:1}.small .better line{stroke:var(--better-ink)}\
.small .better circle{fill:var(--better-ink)}.small .worse line{stroke:var(--worse-ink)}\
.small .worse circle{fill:var(--worse-ink)}\
.small .m{text-anchor:middle}.growth .grid{stroke:var(--rule);stroke-width:1}.growth polyline{fill:none;stroke:var(--c);stroke-width:2}\
.growth .range{stroke:var(--c);stroke-width:1.5;opacity:.45}.growth circle{stroke:var(--c);stroke-width:1.5;fill:var(--paper)}\
.growth circle.better,.growth circle.worse{fill:var(--c)}\
.legend span{white-space:nowrap;margin-right:1em}.legend span:before{content:\"\";display:inline-block;width:1.1em;height:.25em;\
background:var(--c);vertical-align:middle;margin-right:.4em}\
table.moved{font-size:11px;line-height:1.25;margin:.2em 0 .4em}.moved td,.moved th{padding:.05em .5em;text-align:right;\
white-space:nowrap;font-variant-numeric:tabular-nums;border-bottom:1px solid var(--rule)}.moved th{font-weight:600;vertical-align:bottom;\
border-bottom:1px solid var(--strong)}.moved th span{color:var(--quiet);font-weight:400}.moved tr>:first-child{text-align:left}";

/// Text made safe for HTML.
pub fn esc(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The class that colours a verdict.
pub fn class(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Better) => "better",
        Some(Verdict::Worse) => "worse",
        Some(Verdict::NoDifference) => "no-difference",
        None => "",
    }
}

/// Append; writing to a String cannot fail.
pub fn put(h: &mut String, what: std::fmt::Arguments) {
    let _ = h.write_fmt(what);
}
