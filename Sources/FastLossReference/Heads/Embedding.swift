// The table of vectors behind batch labels and gene identifiers.

extension Reference {
    /// One vector of D elements for each of V indices.
    ///
    ///     y_r = W_i(r)        dW_v = Σ dy_r over the rows with i(r) = v
    ///
    /// Source: PyTorch `Embedding`, without a padding index.
    public struct Embedding<T: ReferenceScalar>: HeadParameters {
        /// V, the number of vectors.
        public let count: Int
        /// D, the elements of a vector.
        public let width: Int
        /// W, `count` × `width`.
        public var weight: [T]

        /// A table of zeros.
        @inlinable
        public init(count: Int, width: Int) {
            self.count = count
            self.width = width
            weight = [T](repeating: 0, count: count * width)
        }

        @inlinable
        public var stateDict: [(name: String, array: WritableKeyPath<Self, [T]>)] { [("weight", \.weight)] }

        /// The vector of every index: `indices.count` × `width` elements.
        @inlinable
        public func value(indices: [Int32]) -> [T] {
            indices.flatMap { weight[row(of: $0)] }
        }

        /// Carries a gradient of the output back to the table.
        @inlinable
        public func gradient(outputGradient: [T], indices: [Int32]) -> Self {
            precondition(outputGradient.count == indices.count * width)
            var table = Embedding(count: count, width: width)
            for (r, index) in indices.enumerated() {
                for (i, k) in row(of: index).enumerated() { table.weight[k] += outputGradient[r * width + i] }
            }
            return table
        }

        @inlinable
        func row(of index: Int32) -> Range<Int> {
            precondition((0..<count).contains(Int(index)), "index \(index) in a table of \(count)")
            return Int(index) * width..<(Int(index) + 1) * width
        }
    }
}
