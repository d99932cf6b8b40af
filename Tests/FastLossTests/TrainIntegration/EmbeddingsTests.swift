// Principal components and neighbours' labels, as the example's report has them.

import Testing
import TrainIntegration

/// Principal components and neighbours, in cases that are known by hand.
@Suite struct CellRowsTests {
    @Test func principalComponentsOfAnEllipse() {
        // Along (3, 4)/5 with the lengths ±10, and across it with ±1.
        let rows = [(10.0, 0.0), (-10, 0), (0, 1), (0, -1)].map { along, across in
            [7 + 0.6 * along - 0.8 * across, 2 + 0.8 * along + 0.6 * across]
        }
        let scores = principalComponents(rows, 2)
        expectClose(scores.map { abs($0[0]) }, [10, 10, 0, 0], Tolerances.principalComponents)
        expectClose(scores.map { abs($0[1]) }, [0, 0, 1, 1], Tolerances.principalComponents)
    }

    @Test func neighboursOfTwoGroups() {
        let rows: CellRows = [0, 1, 2, 100, 101, 102].map { [$0] }
        let labels = NeighbourLabels(
            rows, types: [0, 0, 0, 1, 1, 0], wells: [0, 1, 0, 0, 1, 0], neighbours: 2)
        // Each of the first three has two neighbours of its type; of the others, two have one and one none.
        expectClose(labels.purity, 8.0 / 12, Tolerances.principalComponents)
        // Pairs from different wells: 8 of 12 among neighbours, 16 of 30 in all.
        expectClose(labels.mixing, (8.0 / 12) / (16.0 / 30), Tolerances.principalComponents)
    }
}
