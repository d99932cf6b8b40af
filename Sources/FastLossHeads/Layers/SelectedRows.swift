// The tokens that a mask selects, as a list of rows: a decoder computes those and no others.

import CFastLossKernels
import FastLoss

/// The rows that a mask selects among all tokens of a batch, in their order.
struct SelectedRows {
    /// The number of selected rows, M.
    let count: Int
    /// The number of all rows, B·L.
    let total: Int
    private let mask: UnsafePointer<Bool>?
    private let indices: ScratchArray<Int>

    /// Counts the rows; without a mask all are selected. ``list(on:)`` then lists them.
    init(mask: UnsafePointer<Bool>?, total: Int, in layout: inout ScratchLayout) throws(LossError) {
        self.mask = mask
        self.total = total
        count = mask.map { kernels.count_selected($0, total) } ?? total
        // One place more: the list is written without a branch, which also writes behind its end.
        indices = try layout.add(count + 1, of: Int.self)
    }

    /// Lists the rows. The mask may not change between the plan and this.
    func list(on execution: Execution) {
        let indices = execution.pointer(indices)
        guard let mask else {
            for row in 0..<total { indices[row] = row }
            return
        }
        var next = 0
        for row in 0..<total {
            indices[next] = row
            next += mask[row] ? 1 : 0
        }
    }

    /// The numbers of the selected rows, after ``list(on:)``.
    func indices(on execution: Execution) -> UnsafePointer<Int> {
        UnsafePointer(execution.pointer(indices))
    }

    /// The positions in the list of a cell's rows, which follow each other.
    func positions(ofCell cell: Int, tokens: Int, on execution: Execution) -> Range<Int> {
        let indices = indices(on: execution)
        /// The first position whose row is at least this one, by bisection.
        func position(of row: Int) -> Int {
            var low = 0
            var high = count
            while low < high {
                let middle = (low + high) / 2
                if indices[middle] < row { low = middle + 1 } else { high = middle }
            }
            return low
        }
        return position(of: cell * tokens)..<position(of: (cell + 1) * tokens)
    }

    /// Whether a row is selected.
    func contains(_ row: Int) -> Bool { mask?[row] ?? true }
}
