/// The page's style sheet.
///
/// Light unless the reader's screen asks for dark; paper is always light. Text has a contrast of at
/// least 4.5 to its ground in both, lines and areas at least 3 where they carry a figure. Drawings
/// are 320 units wide and never shown narrower than that on a phone of 360 px, so their text of 12
/// units stays 12 px or more.
enum ReportStyle {
    static let sheet: StaticString = """

        :root {
            --paper: #ffffff; --raised: #f7f8fa; --ink: #171c22; --dim: #525c67; --line: #d9dee4;
            --well: #eef1f4; --accent: #0a5fa8;
            --c0: #0a5fa8; --c1: #b8440b; --c2: #0b7558; --c3: #93357a; --c4: #806000; --c5: #4a5866;
            --b0: #0b3c6b; --b1: #3f8fd2; --b2: #a5cdf0; --b3: #b8440b;
        }
        @media screen and (prefers-color-scheme: dark) {
            :root {
                --paper: #101418; --raised: #171c22; --ink: #e8ebee; --dim: #a2adb8; --line: #313a44;
                --well: #1d242b; --accent: #6cb8f5;
                --c0: #6cb8f5; --c1: #ff9a62; --c2: #45cf9f; --c3: #e796cb; --c4: #e2c044; --c5: #aab7c4;
                --b0: #b9dcfa; --b1: #5aa6e6; --b2: #2a5f90; --b3: #ff9a62;
            }
        }
        *, *::before, *::after { box-sizing: border-box; }
        html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
        body {
            margin: 0 auto; max-width: 1320px; padding: 20px 10px 48px; background: var(--paper);
            color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
            "Helvetica Neue", "Noto Sans", sans-serif; font-variant-numeric: tabular-nums;
            overflow-wrap: anywhere;
        }
        h1, h2, h3 { line-height: 1.2; letter-spacing: -0.012em; text-wrap: balance; margin: 0; }
        h1 { font-size: clamp(1.55rem, 1.1rem + 2vw, 2.4rem); font-weight: 700; }
        h2 {
            font-size: clamp(1.3rem, 1.1rem + 0.9vw, 1.7rem); margin: 56px 0 16px;
            padding-top: 14px; border-top: 3px solid var(--ink);
        }
        h3 { font-size: 1.1rem; margin: 32px 0 12px; }
        .kind { margin: 0 0 4px; color: var(--accent); font-weight: 600; font-size: 0.9rem; }
        .dim, .remark, footer { color: var(--dim); }
        .remark { margin: -4px 0 14px; max-width: 75ch; font-size: 0.94rem; }
        .empty { margin: 48px 0; font-size: 1.1rem; }
        footer { margin-top: 56px; padding-top: 14px; border-top: 1px solid var(--line); font-size: 0.88rem; }
        footer p { margin: 0; max-width: 90ch; }

        .facts {
            display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 150px), 1fr));
            gap: 12px 20px; margin: 22px 0;
        }
        .facts div { border-top: 1px solid var(--line); padding-top: 6px; }
        .facts dt { color: var(--dim); font-size: 0.82rem; }
        .facts dd { margin: 0; line-height: 1.35; }
        pre {
            margin: 0; padding: 10px 12px; border-radius: 6px; background: var(--well);
            font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
            white-space: pre-wrap; overflow-wrap: anywhere;
        }
        .remarks {
            margin: 16px 0 0; padding: 10px 14px 10px 30px; border-left: 4px solid var(--c4);
            background: var(--raised); border-radius: 0 6px 6px 0; max-width: 100ch;
        }
        .remarks li + li { margin-top: 4px; }

        .charts { columns: 3 348px; column-gap: 24px; margin-bottom: 24px; }
        figure { margin: 0 0 24px; max-width: 470px; break-inside: avoid; }
        .charts > figure:last-child { margin-bottom: 0; }
        figcaption { margin-bottom: 8px; line-height: 1.3; }
        figcaption strong { display: block; font-weight: 650; }
        figcaption span { color: var(--dim); font-size: 0.86rem; }
        .legend {
            list-style: none; margin: 8px 0 0; padding: 0; display: flex; flex-wrap: wrap;
            gap: 3px 18px; font-size: 0.86rem; line-height: 1.35;
        }
        .legend li { display: flex; gap: 8px; align-items: flex-start; min-width: 0; }
        .sample { flex: none; width: 34px; height: 14px; margin-top: 3px; }

        .chart { display: block; width: 100%; height: auto; }
        .chart text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; fill: var(--ink); }
        .chart text { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
        .chart text.dim { fill: var(--dim); }
        .c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); }
        .c3 { --c: var(--c3); } .c4 { --c: var(--c4); } .c5 { --c: var(--c5); }
        .ink { --c: var(--ink); }
        .grid { stroke: var(--line); stroke-width: 1; }
        .axis { stroke: var(--dim); stroke-width: 1; }
        .curve { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }
        .d1 { stroke-dasharray: 7 3; } .d2 { stroke-dasharray: 2.5 2.5; } .d3 { stroke-dasharray: 9 3 2 3; }
        .mark { fill: var(--c); stroke: var(--paper); stroke-width: 1.2; }
        .whisker { stroke: var(--c); stroke-width: 1.3; }
        .bound { fill: none; stroke: var(--c); stroke-width: 1.6; stroke-dasharray: 1.5 3; stroke-linecap: round; }
        .level { stroke: var(--c3); stroke-width: 1.8; }
        .level.l1 { stroke: var(--c4); stroke-dasharray: 8 4; }
        .level.l2 { stroke: var(--c5); stroke-dasharray: 3 3; }
        .bar { fill: var(--c0); } .bar.peer { fill: var(--c1); } .bar.soft { fill: var(--c0); fill-opacity: 0.62; }
        .spread { stroke: var(--ink); stroke-width: 1.3; }
        .percentile { stroke: var(--ink); stroke-width: 1.8; }
        .percentile.p90 { stroke-dasharray: 5 3; } .percentile.p99 { stroke: var(--c1); stroke-dasharray: 2 2; }
        .b0 { fill: var(--b0); } .b1 { fill: var(--b1); } .b2 { fill: var(--b2); } .b3 { fill: var(--b3); }
        .well { fill: var(--well); }
        .cells path { fill: none; stroke-width: 1; shape-rendering: crispEdges; }
        .uses path { stroke: var(--c1); } .resident path { stroke: var(--c2); }
        rect.uses { fill: var(--c1); stroke: var(--line); } rect.resident { fill: var(--c2); stroke: var(--line); }

        .scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
        .scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
        table { border-collapse: collapse; width: 100%; font-size: 0.86rem; line-height: 1.35; overflow-wrap: normal; }
        caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
        th, td { padding: 8px; text-align: right; vertical-align: top; border-top: 1px solid var(--line); }
        thead th {
            border-top: 0; background: var(--raised); color: var(--dim); font-weight: 500;
            vertical-align: bottom;
        }
        th:first-child { text-align: left; }
        .glance :is(td, thead th):nth-child(2) { text-align: left; min-width: 150px; }
        td small, td .main { white-space: nowrap; }
        .glance td:nth-child(2) .main { white-space: normal; }
        tbody th { font-weight: 600; min-width: 150px; max-width: 300px; overflow-wrap: anywhere; }
        thead + tbody tr > *, .again > td { border-top: 0; }
        .again > td { text-align: left; padding-top: 0; white-space: normal; }
        .again small { white-space: normal; }
        .main { display: block; }
        td .main { font-weight: 550; }
        small { display: block; font-size: 12px; font-weight: 400; color: var(--dim); }
        details { max-width: 100%; }
        summary { cursor: pointer; color: var(--accent); font-size: 0.82rem; }
        details pre { margin-top: 6px; }

        @media (min-width: 760px) {
            .facts { grid-template-columns: repeat(4, 1fr); }
            body { padding: 36px 20px 72px; }
            figure { padding: 14px 12px; border: 1px solid var(--line); border-radius: 10px; }
        }
        @media screen and (min-width: 1080px) {
            body { padding-inline: 32px; }
            .beside { display: grid; grid-template-columns: 390px minmax(0, 1fr); gap: 24px; align-items: start; }
            .beside figure { margin: 0; }
        }
        @media print, (max-width: 759px) {
            .scroll { border: 0; overflow: visible; }
            table, tbody, tbody th, td, .again { display: block; }
            thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
            tbody { padding: 12px; border: 1px solid var(--line); border-radius: 8px; break-inside: avoid; }
            tbody + tbody { margin-top: 10px; }
            tbody tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(138px, 1fr)); gap: 8px 14px; }
            tbody tr.again { display: block; margin-top: 10px; }
            td .main, td small { white-space: normal; overflow-wrap: anywhere; }
            .glance td:nth-child(2) { grid-column: 1 / -1; }
            tbody th { grid-column: 1 / -1; max-width: none; font-size: 0.95rem; }
            tbody th, td, .glance td:nth-child(2), .again > td { padding: 0; border: 0; text-align: left; min-width: 0; }
            td[data-label]::before { content: attr(data-label); display: block; color: var(--dim); font-size: 12px; }
        }
        @media print {
            .facts { grid-template-columns: repeat(4, 1fr); }
            @page { margin: 14mm; }
            body { padding: 0; max-width: none; font-size: 11pt; }
            * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
            figure, .remarks, pre { break-inside: avoid; }
            h2, h3, figcaption { break-after: avoid; }
            .charts { columns: 2; }
            details::details-content { content-visibility: visible; height: auto; }
            summary { list-style: none; }
        }

        """
}
