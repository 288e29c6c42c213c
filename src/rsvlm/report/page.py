"""The frame and the look of pages that stand alone: no other file, script or address is needed."""

from __future__ import annotations

from html import escape


def whole_page(title: str, body: str) -> str:
    """A page of HTML.

    Args:
        title: as text.
        body: as HTML.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"{body}</main></body></html>\n"
    )


STYLE = """
:root{--page:#fff;--ink:#1d2530;--quiet:#5d6875;--line:#e3e7ec;--soft:#f5f7f9;--first:#1f6fb2;
--tick:#c25a12;--good:#18803c}
@media (prefers-color-scheme:dark){:root{--page:#161b22;--ink:#e4e8ee;--quiet:#98a4b2;
--line:#2c343e;--soft:#1d242d;--first:#64aef2;--tick:#f0a05a;--good:#5cc483}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1040px;margin:0 auto;padding:40px 24px 72px}
section+section{margin-top:56px;padding-top:32px;border-top:1px solid var(--line)}
h1,h2{line-height:1.2;margin:0 0 16px;letter-spacing:-.01em}h1{font-size:30px}h2{font-size:23px}
h3{font-size:18px;margin:36px 0 12px}h3 span{font-weight:400;font-size:14px;color:var(--quiet);
margin-left:6px}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
font-size:.92em}
.quiet,figcaption{color:var(--quiet)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:10px 24px;margin:0}
.facts dt{font-size:12px;color:var(--quiet)}.facts dd{margin:0;overflow-wrap:anywhere}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:0 0 16px}
.card{background:var(--soft);border:1px solid var(--line);border-radius:8px;padding:14px 18px;
min-width:190px}
.card .what{font-size:13px;color:var(--quiet)}
.card .big{font-size:32px;font-weight:600;line-height:1.25;font-variant-numeric:tabular-nums}
.card small{font-size:16px;font-weight:400}.card .quiet{font-size:13px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th{font-weight:500;color:var(--quiet);text-align:left;font-size:12px}
th,td{padding:6px 14px 6px 0;border-bottom:1px solid var(--line);vertical-align:middle}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.bar{min-width:160px;width:26%}
td.bar i{display:block;position:relative;height:8px;border-radius:4px;background:var(--line)}
td.bar u{display:block;height:100%;border-radius:4px;background:var(--first)}
td.bar b{position:absolute;top:-3px;width:2px;height:14px;margin-left:-1px;background:var(--tick)}
a{color:var(--first)}
figure{margin:32px 0 0;overflow-x:auto}figure img{max-width:100%;height:auto;display:block;
border:1px solid var(--line);border-radius:8px}
figure.paper img{background:#fff;padding:8px}
figcaption{font-size:13px;margin-top:8px}
details{margin-top:32px}summary{cursor:pointer;font-weight:500}
summary span{font-weight:400;color:var(--quiet);margin-left:6px}
details.record{margin-top:0;padding:8px 0;border-bottom:1px solid var(--line)}
details.record>div{padding:0 0 16px 20px}details.record h3{font-size:15px;margin:24px 0 8px}
figure.seen{margin:16px 0 24px}figure.seen img{min-width:256px}
.right{color:var(--good)}.cut td{vertical-align:top}
pre{background:var(--soft);border:1px solid var(--line);border-radius:8px;padding:16px;
overflow-x:auto;font-size:12.5px;line-height:1.45}
.protocols dt{font-weight:600;margin-top:14px}.protocols dd{margin:2px 0 0;color:var(--quiet)}
@media (max-width:760px){.why{display:none}td.bar{width:auto}}
@media print{details{display:none}}
"""
