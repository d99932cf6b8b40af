// Strips of a triangle: every task has another strip, and tasks from both ends have equally much to do.

import FastLoss
import Testing

@Suite struct RowStripsTests {
    @Test(arguments: [0, 1, 16, 17, 33, 64, 65, 100, 128, 129, 500, 512, 513, 700, 1024])
    func everyStripHasOneTask(rows: Int) {
        let all = 0..<rows
        for strips in [RowStrips(upperTriangleOf: rows), RowStrips(rows: rows, columns: 40)] {
            let taken = (0..<strips.strips(of: all)).map { strips.strip(ofTask: $0, of: all) }
            let inOrder = taken.sorted { $0.lowerBound < $1.lowerBound }
            #expect(inOrder == (0..<taken.count).map { strips.strip($0, of: all) })
        }
    }

    @Test(arguments: [64, 128, 256, 512, 1024])
    func theTasksFromBothEndsAreEqualWork(rows: Int) {
        let strips = RowStrips(upperTriangleOf: rows)
        let work = (0..<strips.count).map { task in
            let strip = strips.strip(ofTask: task, of: 0..<rows)
            return strip.count * strips.columns(of: strip).count
        }
        let half = work.count / 2
        #expect(work[..<half].reduce(0, +) == work[half...].reduce(0, +))
    }
}
