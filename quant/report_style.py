"""The style sheet of a report: light and dark, for screens and for paper."""

__all__ = ["STYLE"]

STYLE = """\
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c2330; --soft: #5d6675; --line: #dde1e8;
  --card: #f5f7fa; --blue: #2461c9; --orange: #c8570a; --green: #23835a; --purple: #8443b5; --red: #cc2f3c;
  --mark: #fdeecb; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171c; --ink: #e4e7ec; --soft: #9aa3b0; --line: #333944; --card: #1d2128;
    --blue: #71a5ff; --orange: #f29a4e; --green: #5cc596; --purple: #c491ec; --red: #ff7680;
    --mark: #453a1c; }
}
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Liberation Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 12px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 36px 0 8px; }
h3 { font-size: 15px; margin: 0 0 4px; overflow-wrap: anywhere; }
small, figcaption, dt, .legend, th { color: var(--soft); }
h3 small { font-weight: normal; }
a { color: var(--blue); text-decoration: none; }
a:hover { text-decoration: underline; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 0 0 18px;
  font-size: 14px; }
dd { margin: 0; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 12px; }
.cards div { background: var(--card); border-radius: 8px; padding: 12px 14px; }
.cards span, .cards small { display: block; color: var(--soft); font-size: 13px; }
.cards b { display: block; font-size: 19px; line-height: 1.3; margin: 2px 0; overflow-wrap: anywhere; }
details { margin: 18px 0 0; }
summary { cursor: pointer; color: var(--blue); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 8px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
th:nth-child(2), td:nth-child(2), th:nth-child(3), td:nth-child(3) { text-align: left; }
tr.worst { background: var(--mark); }
figure { margin: 0; }
figcaption { font-size: 13px; }
section { border-top: 1px solid var(--line); padding: 14px 0; break-inside: avoid; }
section p { margin: 0 0 8px; font-size: 14px; }
.pair { display: grid; gap: 8px 28px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); }
.pair figure { max-width: 500px; }
svg { display: block; width: 100%; height: auto; }
svg.depth { min-width: 620px; }
svg text { fill: var(--soft); font-size: 11px; }
.grid, .axis { stroke: var(--line); fill: none; }
rect.worst { fill: var(--mark); }
.depth g path { fill: none; stroke-width: 1.6; }
g.whole path { stroke: var(--blue); stroke-width: 2.4; } g.whole circle { fill: var(--blue); }
g.injected path { stroke: var(--orange); } g.injected circle { fill: var(--orange); }
g.inherited path { stroke: var(--green); stroke-dasharray: 5 3; } g.inherited circle { fill: var(--green); }
g.output path { stroke: var(--purple); stroke-dasharray: 2 3; } g.output circle { fill: var(--purple); }
.legend { margin: 0; font-size: 13px; }
.legend span { margin-right: 18px; }
.legend span::before { content: "●"; margin-right: 5px; }
.legend .whole::before { color: var(--blue); } .legend .injected::before { color: var(--orange); }
.legend .inherited::before { color: var(--green); } .legend .output::before { color: var(--purple); }
.inside { fill: var(--blue); opacity: 0.75; }
.outside { fill: var(--red); }
.limit { stroke: var(--red); stroke-dasharray: 4 3; fill: none; }
"""
