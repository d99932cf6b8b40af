// The page's charts: every row as a bar against its own ceiling, in one section per kind of limit.
//
// Each section has its own axis and unit. The bars are HTML, not SVG, so that a narrow screen can put a row's
// text above its bar instead of shrinking both.

import Foundation

/// What limits a row.
enum Limit: CaseIterable {
    case arithmetic
    case cache
    case memory
    /// Calls so short that fixed costs dominate.
    case smallWork

    /// Nanoseconds; twice what waking the workers takes. Shorter calls cannot gain much from several workers.
    static let smallCall = 20_000.0

    init(of record: Record) {
        if record.time.p50 < Self.smallCall {
            self = .smallWork
        } else if record.share?.isArithmetic == true {
            self = .arithmetic
        } else {
            self = record.share?.ceiling.hasPrefix("memory") == true ? .memory : .cache
        }
    }

    var title: String {
        switch self {
        case .arithmetic: "Limited by arithmetic"
        case .cache: "Limited by a cache"
        case .memory: "Limited by memory"
        case .smallWork: "Small calls"
        }
    }

    var unit: String {
        switch self {
        case .arithmetic: "GFLOP/s"
        case .cache, .memory: "GB/s"
        case .smallWork: "µs per call"
        }
    }

    var explanation: String {
        switch self {
        case .arithmetic:
            "Bar: floating-point operations of the row’s formula per second. Mark: OpenBLAS’s sgemm on tiles of a "
                + "similar depth. The axis ends at the multiply-adds that all workers reach in registers, "
                + "the limit of the processor."
        case .cache:
            "Bar: bytes of input and output per second, each byte counted once. Mark: bandwidth of the smallest "
                + "cache that holds all of them. Rows with logarithms or exponentials per element stay far below it."
        case .memory:
            "Bar: bytes of input and output per second. Mark: a plain stream of as many bytes on as many workers, "
                + "timed in pairs with the row because the bandwidth of a shared machine drifts."
        case .smallWork:
            "Calls below \(Int(Self.smallCall / 1000)) µs. Bar: time, shorter is better. Mark: the time that one worker "
                + "would need at the row’s ceiling. Checking arguments and waking the workers take part of such a call."
        }
    }

    /// The length of the bar, the place of the mark and the share of the ceiling; nil without a finite rate.
    func figures(of record: Record) -> (value: Double, mark: Double?, share: Double)? {
        guard let share = record.share, let ofCeiling = share.ofCeiling else { return nil }
        switch self {
        case .arithmetic: return record.time.gflops.map { ($0, share.rate, ofCeiling) }
        case .cache, .memory: return record.time.gigabytesPerSecond.map { ($0, share.rate, ofCeiling) }
        case .smallWork:
            let ofOne = share.ofOneWorker ?? ofCeiling
            return (record.time.p50 / 1000, record.time.p50 / 1000 * ofOne, ofOne)
        }
    }
}

/// The rating of a row, shown by a sign as well as by colour.
enum Rating: CaseIterable {
    case near, between, far, slower

    /// Shares of the ceiling from which a row counts as near it, and below which as far from it.
    private static let (nearShare, farShare) = (0.75, 0.4)

    init(of record: Record, share: Double) {
        // Equal code differs from itself by up to 2 %.
        let isSlowedByWorkers = record.ratios.oneWorker?.bounds.map { $0.upperBound < 0.98 } ?? false
        if record.ratios.naive.map({ $0.median < 1 }) ?? false || isSlowedByWorkers {
            self = .slower
        } else {
            self = share >= Self.nearShare ? .near : share < Self.farShare ? .far : .between
        }
    }

    var sign: String {
        switch self {
        case .near: "✓"
        case .between: "○"
        case .far: "▽"
        case .slower: "✗"
        }
    }

    var style: String { "\(self)" }

    var meaning: String {
        switch self {
        case .near: "at least 75 % of the ceiling"
        case .between: "40 to 75 %"
        case .far: "below 40 %: room for improvement, or limited by something else"
        case .slower: "slower than the naive loop, or slower on all workers than on one by more than 2 %"
        }
    }
}

/// The sections of all limits.
struct LimitSections {
    let report: Report
    private let records: [Record]

    init(_ report: Report) {
        self.report = report
        records = report.rows.map(\.fastloss)
    }

    var html: String {
        let legend = Rating.allCases.map {
            "<li class=\"\($0.style)\"><i class=\"bar\"></i><b>\($0.sign)</b> \($0.meaning)</li>"
        }
        let sections = Limit.allCases.compactMap { limit -> String? in
            let chosen = records.filter { Limit(of: $0) == limit }
            return chosen.isEmpty ? nil : section(limit, chosen)
        }
        return """
            <section>
            <h2>Every row against its limit</h2>
            <p>Each row passed a check against the reference in double precision before it was timed. The sections group \
            the rows by what limits them; each has its own axis. The last two figures say how many times as fast FastLoss is \
            as the naive loop, and all workers as one.</p>
            <ul class="legend">\(legend.joined())<li><i class="mark"></i> the row’s ceiling</li></ul>
            \(sections.joined(separator: "\n"))
            \(scalingNote)
            </section>
            """
    }

    private func section(_ limit: Limit, _ chosen: [Record]) -> String {
        let figures = chosen.compactMap { limit.figures(of: $0) }
        var reach = figures.flatMap { [$0.value, $0.mark ?? 0] }.max() ?? 1
        if limit == .arithmetic { reach = max(reach, report.ceilings.multiplyAdd.allWorkers) }
        let axis = Axis(to: reach)
        let ticks = axis.ticks.map {
            "<span style=\"left:\(cssPercent(axis.position($0)))\">\(trimmed($0))</span>"
        }
        let groups = chosen.grouped(by: \.row.title).map { group in
            "<h4>\(escaped(group.key))</h4>\n"
                + group.elements.map { row($0, limit, axis) }.joined(separator: "\n")
        }
        let step = cssPercent(axis.ticks.count > 1 ? axis.position(axis.ticks[1]) : 1)
        return """
            <h3>\(limit.title)</h3>
            <p>\(limit.explanation)\(excess(limit, chosen))</p>
            <div class="rows" style="--step:\(step)">
            <div class="row head"><span class="axis">\(ticks.joined())</span><span class="unit">\(limit.unit)</span>\
            <span class="naive">naive loop</span><span class="one">1 worker</span></div>
            \(groups.joined(separator: "\n"))
            </div>
            """
    }

    private func row(_ record: Record, _ limit: Limit, _ axis: Axis) -> String {
        let name = "\(record.row.mode.words) · \(record.row.shapeText)"
        let naive = record.ratios.naive.map(timesText) ?? "–"
        let oneWorker = record.ratios.oneWorker.map(timesText) ?? "–"
        guard let (value, mark, share) = limit.figures(of: record) else {
            return "<div class=\"row\"><span class=\"what\">\(name)</span></div>"
        }
        let rating = Rating(of: record, share: share)
        // "read stream": the section says that it goes through memory.
        let ceiling = (record.share?.ceiling ?? "").replacing(/^memory (.* stream)$/) { "\($0.output.1)" }
        let line = mark.map { "<i class=\"mark\" style=\"left:\(cssPercent(axis.position($0)))\"></i>" } ?? ""
        let of = limit == .smallWork ? "of one worker’s \(ceiling)" : "of \(ceiling)"
        return """
            <div class="row \(rating.style)"><span class="what">\(name)</span>\
            <span class="track"><i class="bar" style="width:\(cssPercent(axis.position(value)))"></i>\(line)</span>\
            <span class="figure"><b>\(rating.sign)</b> \(significant(value)), \(percent(share)) \(escaped(of))</span>\
            <span class="naive">\(naive)</span><span class="one">\(oneWorker)</span></div>
            """
    }

    /// Why rows exceed their ceiling; empty if none does.
    private func excess(_ limit: Limit, _ chosen: [Record]) -> String {
        guard chosen.contains(where: { limit.figures(of: $0).map { $0.share > 1 } ?? false }) else {
            return ""
        }
        let (set, core) = (escaped(report.runtime.instructionSet), escaped(report.runtime.blasCore))
        switch limit {
        case .arithmetic:
            return
                " Rows above 100 % are faster than sgemm: FastLoss multiplies with its own \(set) kernels, and OpenBLAS "
                + "ran its \(core) kernels, whose vectors may be narrower."
        case .cache:
            return
                " Rows above 100 % keep part of their bytes in a smaller cache: the level is chosen by what one core "
                + "can hold, and several workers have as many private caches."
        case .memory:
            return
                " Rows above 100 % read more than they write, or the largest cache keeps more of their bytes from "
                + "call to call; the stream with gradient writes as much as it reads."
        case .smallWork:
            return
                " A mark beyond its bar belongs to a row that exceeds one worker’s ceiling: it runs on several "
                + "workers, or is faster than sgemm."
        }
    }

    /// Why rows gain more than the number of workers; empty if none does.
    private var scalingNote: String {
        let workers = Double(report.runtime.workers)
        let superlinear = records.filter {
            $0.ratios.oneWorker?.bounds.map { $0.lowerBound > workers } ?? false
        }
        guard !superlinear.isEmpty, let memory = report.ceilings.levels.last?.read else { return "" }
        let names = superlinear.map { "\($0.row.title), \($0.row.mode.words), \($0.row.shapeText)" }
        return """
            <h3>More than \(trimmed(workers))× on \(trimmed(workers)) workers</h3>
            <p>\(escaped(names.joined(separator: "; "))): these rows gain more than the number of workers. Several cores \
            have as many private caches and request as many cache lines at once, so bandwidth can grow faster than the \
            number of cores. In this run, reading memory reached \(significant(memory.oneWorker)) GB/s on one worker and \
            \(significant(memory.allWorkers)) GB/s on all, \(significant(memory.allWorkers / memory.oneWorker))× as much.</p>
            """
    }

    static let style = """
        .legend{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;margin:0 0 1rem;padding:0;font-size:.875rem}
        .legend li{display:flex;align-items:center;gap:.4rem}
        .legend .bar{position:static;width:1.5rem;height:.7rem}.legend .mark{position:static;height:1rem}
        .rows{font-size:.8125rem;font-variant-numeric:tabular-nums}
        .rows h4{margin:.6rem 0 .1rem;font-size:.875rem}
        .row{display:grid;grid-template-columns:14.5rem minmax(0,1fr) 17.5rem 5rem 4.5rem;column-gap:1rem;\
        align-items:center;line-height:1.5}
        .row.head{color:var(--quiet)}.row.head .axis{grid-column:2}
        .naive,.one{text-align:right}
        .axis{position:relative;height:1.4em}.axis span{position:absolute;transform:translateX(-50%)}
        .track{position:relative;height:1.15em;background:repeating-linear-gradient(to right,var(--grid) 0 1px,\
        transparent 1px var(--step))}
        .bar{position:absolute;left:0;top:.2em;height:.75em;min-width:2px;background:var(--fair);border-radius:1px}
        .mark{position:absolute;top:0;height:100%;width:0;border-left:3px solid var(--limit);margin-left:-1.5px;\
        box-shadow:0 0 0 1px var(--paper)}
        .near .bar{background:var(--good)}
        .far .bar{background:repeating-linear-gradient(135deg,var(--far) 0 3px,transparent 3px 6px);\
        outline:1px solid var(--far);outline-offset:-1px}
        .slower .bar{background:var(--bad)}
        .near b{color:var(--good)}.between b{color:var(--fair)}.far b{color:var(--far)}.slower b{color:var(--bad)}
        .figure b,.legend b{display:inline-block;width:1.1em}
        @media(max-width:60rem){
        .row{grid-template:"what naive" "track track" "figure one"/minmax(0,1fr) auto;padding:.3rem 0}
        .what{grid-area:what}.track{grid-area:track}.figure{grid-area:figure}.naive{grid-area:naive}.one{grid-area:one}
        .row:not(.head) .naive::after{content:" naive loop"}.row:not(.head) .one::after{content:" 1 worker"}
        .naive,.one{color:var(--quiet)}
        .row.head{display:block}.row.head .axis{display:block}.row.head .unit{display:block;text-align:right}
        .row.head :is(.naive,.one){display:none}}
        """
}

/// A share as a CSS length.
private func cssPercent(_ share: Double) -> String { String(format: "%.1f%%", 100 * share) }

extension Array {
    /// Groups of elements with an equal key, in the order of their first elements.
    func grouped<Key: Hashable>(by key: (Element) -> Key) -> [(key: Key, elements: [Element])] {
        var order: [Key] = []
        let groups = Dictionary(grouping: self) { element in
            let key = key(element)
            if !order.contains(key) { order.append(key) }
            return key
        }
        return order.map { ($0, groups[$0] ?? []) }
    }
}
