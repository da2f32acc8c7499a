"""The page's style sheet: light, one column on a phone, two beside each other, and on paper."""

CSS = """
:root { --ink: #1c1c1c; --soft: #5b5b5b; --line: #dcdcdc; --wash: #f6f6f4; --blue: #0072b2; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; color: var(--ink);
  background: #fff; font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .35rem; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
p { margin: .4rem 0; max-width: 52rem; }
a { color: var(--blue); }
.soft { color: var(--soft); }
.small { font-size: .875rem; }
.headline { font-size: 1.125rem; background: var(--wash); border-left: 4px solid var(--blue);
  padding: .7rem 1rem; margin: 1.1rem 0; }
.headline p { max-width: none; }
.panels { display: grid; gap: 1.25rem 2rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); align-items: start; }
figure { margin: 0; break-inside: avoid; }
figure img { display: block; width: 100%; height: auto; max-width: 40rem; }
figcaption { font-size: .875rem; color: var(--soft); }
.scroll { overflow-x: auto; margin: .5rem 0; border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; text-align: right; white-space: nowrap; vertical-align: top;
  border-bottom: 1px solid #ececec; overflow-wrap: normal; }
tr:last-child td { border-bottom: 0; }
th { font-size: .8125rem; font-weight: 600; color: var(--soft); background: var(--wash); }
th.text, td.text { text-align: left; }
td.wrap { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 16rem; }
tr.reference td { color: var(--soft); font-style: italic; background: #fcfcfb; }
svg.line { vertical-align: middle; margin-right: .5rem; }
.badge { display: inline-block; padding: .05rem .5rem; border-radius: 1rem; font-size: .8125rem;
  background: #eee; }
.failed, .diverged { background: #fbe3d6; color: #8a3200; }
.interrupted { background: #fdf0d0; color: #6b4b00; }
.running { background: #dcecf7; color: #004c78; }
.completed { background: #dcf1e8; color: #00543b; }
pre { background: var(--wash); border: 1px solid var(--line); border-radius: 4px;
  padding: .6rem .8rem; margin: .4rem 0; white-space: pre-wrap; font-size: .875rem;
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .5rem 0; }
dt { color: var(--soft); } dd { margin: 0; }
@media (max-width: 40rem) {
  body { padding: 1.1rem .9rem 3rem; }
  h1 { font-size: 1.375rem; }
  .headline { font-size: 1rem; padding: .6rem .8rem; }
  th, td { padding: .3rem .55rem; font-size: .875rem; }
}
@media print {
  @page { margin: 14mm; }
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  .panels { grid-template-columns: 1fr 1fr; gap: 5mm; }
  .scroll { overflow: visible; border: 0; }
  th, td { padding: .2rem .4rem; font-size: 8pt; white-space: normal; }
  h2 { break-after: avoid; } tr, pre { break-inside: avoid; }
  a { color: inherit; text-decoration: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
