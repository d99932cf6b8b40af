// Vectors of cells joined to vectors of tokens: repetition and concatenation, with their gradients.

extension Reference {
    /// How many rows of `width` elements make `count` elements.
    @inlinable
    static func rowCount(_ count: Int, width: Int) -> Int {
        precondition(width > 0 && count.isMultiple(of: width), "\(count) elements in rows of \(width)")
        return count / width
    }

    /// Each cell's vector once per token: from B × `width` to B × `tokens` × `width` elements.
    @inlinable
    static func repeated<T: ReferenceScalar>(_ vectors: [T], tokens: Int, width: Int) -> [T] {
        var rows: [T] = []
        rows.reserveCapacity(vectors.count * tokens)
        for cell in 0..<rowCount(vectors.count, width: width) {
            for _ in 0..<tokens { rows += vectors[cell * width..<(cell + 1) * width] }
        }
        return rows
    }

    /// Carries a gradient of `repeated` back: each cell's sum over its tokens.
    @inlinable
    static func summedOverTokens<T: ReferenceScalar>(
        _ gradient: [T], cells: Int, tokens: Int, width: Int
    ) -> [T] {
        precondition(gradient.count == cells * tokens * width)
        var sums = [T](repeating: 0, count: cells * width)
        for cell in 0..<cells {
            for token in 0..<tokens {
                for i in 0..<width {
                    sums[cell * width + i] += gradient[(cell * tokens + token) * width + i]
                }
            }
        }
        return sums
    }

    /// Row by row, the elements of `first` and then those of `second`.
    @inlinable
    static func concatenated<T: ReferenceScalar>(
        _ first: [T], width firstWidth: Int, _ second: [T], width secondWidth: Int
    ) -> [T] {
        let count = rowCount(first.count, width: firstWidth)
        precondition(second.count == count * secondWidth)
        var rows: [T] = []
        rows.reserveCapacity(first.count + second.count)
        for r in 0..<count {
            rows += first[r * firstWidth..<(r + 1) * firstWidth]
            rows += second[r * secondWidth..<(r + 1) * secondWidth]
        }
        return rows
    }

    /// Carries a gradient of `concatenated` back: the columns before `column`, and those from it on.
    @inlinable
    static func split<T: ReferenceScalar>(
        _ rows: [T], width: Int, at column: Int
    ) -> (first: [T], second: [T]) {
        var (first, second): ([T], [T]) = ([], [])
        for r in 0..<rowCount(rows.count, width: width) {
            first += rows[r * width..<r * width + column]
            second += rows[r * width + column..<(r + 1) * width]
        }
        return (first, second)
    }

    /// The sum of two arrays, element by element.
    @inlinable
    static func sum<T: ReferenceScalar>(_ a: [T], _ b: [T]) -> [T] {
        precondition(a.count == b.count)
        return zip(a, b).map(+)
    }
}
