// SPDX-FileCopyrightText: 2026 The qlr authors
// SPDX-License-Identifier: MIT
#pragma once

/// Colours of the series are those of Okabe and Ito, which the colour-blind can tell apart; yellow and black,
/// which one of the backgrounds hides, are changed. On paper the light ones hold.
inline constexpr const char* page_style = R"css(
:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--soft:#5a636e;--rule:#d5dae0;--tile:#f4f6f8;
--k0:#0072b2;--k1:#d55e00;--k2:#009e73;--k3:#b8579a;--k4:#c58500;--k5:#3aa0dc;--k6:#6d6100;--k7:#333b45;--k8:#767c84}
@media screen and (prefers-color-scheme:dark){:root{--back:#14171b;--text:#e4e8ec;--soft:#9da7b2;--rule:#343b44;
--tile:#1e2329;--k0:#4a9be8;--k1:#f0803c;--k2:#2cc295;--k3:#dc8fbd;--k4:#e8ab2e;--k5:#8fd0f8;--k6:#d8cc4a;
--k7:#f2f4f6;--k8:#8a8f96}}
*{box-sizing:border-box}
body{overflow-wrap:anywhere;margin:0 auto;padding:1rem;max-width:72rem;background:var(--back);color:var(--text);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.6rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.2rem;margin:2.2rem 0 .5rem}
h3{font-size:1rem;margin:.8rem 0 .2rem}
.panel h3{margin:0}
p{margin:.4rem 0;max-width:60rem}
code{font:.85em/1.4 ui-monospace,Consolas,Menlo,monospace}
.soft,figcaption{color:var(--soft);font-size:.9rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(10rem,1fr));gap:.6rem;margin:1rem 0}
.tiles div{background:var(--tile);border:1px solid var(--rule);border-radius:.4rem;padding:.6rem .8rem}
.tiles dt,.facts dt{color:var(--soft);font-size:.85rem}
.tiles dd{margin:0;font-size:1.15rem;font-weight:600}
.tiles dd small{display:block;font-size:.8rem;font-weight:400;color:var(--soft)}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:.3rem .8rem;margin:0}
.facts dd{margin:0}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:.6rem 0;padding:0;font-size:.9rem}
.legend svg{display:inline-block;width:.95rem;height:.95rem;vertical-align:-.15rem}
figure{margin:0;break-inside:avoid}
svg{display:block;width:100%;height:auto}
.wide,.table{overflow-x:auto}
.wide svg{min-width:36rem}
.wide .axes text{font-size:13px}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(17rem,100%),1fr));gap:1rem}
.axes text{font-size:12px;fill:var(--soft);font-family:inherit}
.grid{stroke:var(--rule);stroke-width:1}
.base{stroke:var(--soft);stroke-width:1}
.mark{fill:currentColor;stroke:var(--back);stroke-width:.4}
.mark:hover{stroke:var(--text);stroke-width:1.5}
.thread{fill:none;stroke:currentColor;stroke-width:1;opacity:.45}
.decay{fill:none;stroke:currentColor;stroke-width:1.2;opacity:.65}
.decay:hover{stroke-width:3;opacity:1}
.k0{color:var(--k0)}.k1{color:var(--k1)}.k2{color:var(--k2)}.k3{color:var(--k3)}.k4{color:var(--k4)}
.k5{color:var(--k5)}.k6{color:var(--k6)}.k7{color:var(--k7)}.k8{color:var(--k8)}
table{border-collapse:collapse;width:100%;font-size:.85rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .45rem;border-bottom:1px solid var(--rule);text-align:right;vertical-align:top;white-space:nowrap}
th{color:var(--soft);font-weight:600;vertical-align:bottom;white-space:normal;overflow-wrap:normal}
td.text,th.text{text-align:left}
td.long{text-align:left;white-space:normal;min-width:19rem}
@media(max-width:45rem){td.long{min-width:10rem}}
tbody tr:hover{background:var(--tile)}
@page{margin:14mm}
@media print{body{max-width:none;padding:0;font-size:11pt}.wide,.table{overflow:visible}.wide svg{min-width:0}
table{font-size:7.5pt}th,td{padding:.1rem .3rem}td.long{min-width:7rem}thead{display:table-header-group}
tr{break-inside:avoid}.tiles div{break-inside:avoid}h2{break-after:avoid}*{print-color-adjust:exact}}
)css";
