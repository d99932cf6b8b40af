// The optimiser of training on the real cells: gradient clipping and Adam, each one loop over all parameters.

/// Adam with PyTorch's defaults: β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸.
package struct Adam: Sendable {
    /// The running means of the gradient and of its square.
    package var means, squares: [Float]
    package var step = 0

    package init(count: Int) {
        means = [Float](repeating: 0, count: count)
        squares = means
    }

    /// Updates the parameters. A gradient whose norm exceeds 1 is scaled to norm 1 first.
    package mutating func update(_ parameters: inout [Float], gradient: [Float], learningRate: Double) {
        step += 1
        let norm = gradient.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
        let factor = Float(min(1, 1 / (norm + 1e-6)))
        let rate = Float(learningRate / (1 - power(0.9, step)))
        let correction = Float(1 / (1 - power(0.999, step)))
        for place in parameters.indices {
            let slope = factor * gradient[place]
            means[place] = 0.9 * means[place] + 0.1 * slope
            squares[place] = 0.999 * squares[place] + 0.001 * slope * slope
            parameters[place] -= rate * means[place] / ((correction * squares[place]).squareRoot() + 1e-8)
        }
    }
}

/// By multiplications alone: the same bits on every machine.
package func power(_ base: Double, _ exponent: Int) -> Double {
    (0..<exponent).reduce(1) { product, _ in product * base }
}
