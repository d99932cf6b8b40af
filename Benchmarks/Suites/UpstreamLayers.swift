// Layers as upstream computes them: one after the other over all tokens, each with its output in memory.

import CFastLossKernels
import FastLoss

/// A fully connected layer over all rows, with sgemm whose rows are shared among workers.
struct UpstreamLinear {
    /// W, `outputs` × `inputs`, and b; nil without bias.
    let weight: [Float]
    let bias: [Float]?
    let inputs: Int
    let outputs: Int
    var weightGradient: [Float]
    var biasGradient: [Float]

    init(weight: [Float], bias: [Float]?, inputs: Int) {
        self.weight = weight
        self.bias = bias
        self.inputs = inputs
        outputs = inputs == 0 ? 0 : weight.count / inputs
        weightGradient = [Float](repeating: 0, count: weight.count)
        biasGradient = [Float](repeating: 0, count: bias == nil ? 0 : outputs)
    }

    /// y = f(x·Wᵀ + b).
    func forward(
        _ x: [Float], into y: inout [Float], _ activation: fastloss_activation = FASTLOSS_IDENTITY,
        workers: Int
    ) {
        let rows = x.count / inputs
        withPointers(x, weight, &y) { x, weight, y in
            inShares(of: rows, workers: workers) { range in
                BLAS.multiplyTransposedRight(
                    MatrixPointer(x + range.lowerBound * inputs, rows: range.count, columns: inputs),
                    MatrixPointer(weight, rows: outputs, columns: inputs),
                    into: y + range.lowerBound * outputs, stride: outputs)
                for row in range { activate(y + row * outputs, activation) }
            }
        }
    }

    private func activate(_ row: UnsafeMutablePointer<Float>, _ activation: fastloss_activation) {
        guard let bias else { return kernels.activate(row, nil, outputs, activation) }
        bias.withUnsafeBufferPointer { kernels.activate(row, $0.baseAddress, outputs, activation) }
    }

    /// dW = dyᵀ·x and db = Σ dy; dx = dy·W or dx += dy·W, if it is wanted.
    mutating func backward(
        _ dy: [Float], _ x: [Float], into dx: inout [Float], wantsInput: Bool = true, adds: Bool = false,
        workers: Int
    ) {
        let rows = x.count / inputs
        let (inputs, outputs) = (inputs, outputs)
        withPointers(dy, x, &weightGradient) { dy, x, gradient in
            inShares(of: outputs, workers: workers) { range in
                BLAS.multiplyTransposedLeft(
                    MatrixPointer(dy + range.lowerBound, rows: rows, columns: range.count, stride: outputs),
                    MatrixPointer(x, rows: rows, columns: inputs),
                    into: gradient + range.lowerBound * inputs, stride: inputs)
            }
        }
        if bias != nil {
            var sums = [Double](repeating: 0, count: outputs)
            dy.withUnsafeBufferPointer { dy in
                sums.withUnsafeMutableBufferPointer { sums in
                    guard let dy = dy.baseAddress, let sums = sums.baseAddress else { return }
                    kernels.add_rows(dy, rows, outputs, outputs, sums)
                }
            }
            for index in biasGradient.indices { biasGradient[index] = Float(sums[index]) }
        }
        guard wantsInput else { return }
        withPointers(dy, weight, &dx) { dy, weight, dx in
            inShares(of: rows, workers: workers) { range in
                BLAS.multiply(
                    MatrixPointer(dy + range.lowerBound * outputs, rows: range.count, columns: outputs),
                    MatrixPointer(weight, rows: outputs, columns: inputs), beta: adds ? 1 : 0,
                    into: dx + range.lowerBound * inputs, stride: inputs)
            }
        }
    }
}

/// Multiplies gradients by the derivative of an activation, from its outputs.
func throughActivation(
    _ gradients: inout [Float], outputs: [Float], _ activation: fastloss_activation, workers: Int
) {
    let count = outputs.count
    withPointers(outputs, outputs, &gradients) { outputs, _, gradients in
        inShares(of: count, workers: workers) { range in
            kernels.activation_gradient(
                gradients + range.lowerBound, outputs + range.lowerBound, range.count, activation)
        }
    }
}

/// Calls `body` with a share of `count` items for each worker.
private func inShares(of count: Int, workers: Int, _ body: (Range<Int>) -> Void) {
    BLAS.prepare()
    let share = (count + workers - 1) / workers
    forEachTask(workers, workers: workers, estimatedNanoseconds: .infinity) { task, _ in
        let range = min(count, task * share)..<min(count, (task + 1) * share)
        if !range.isEmpty { body(range) }
    }
}

private func withPointers(
    _ a: [Float], _ b: [Float], _ c: inout [Float],
    _ body: (UnsafePointer<Float>, UnsafePointer<Float>, UnsafeMutablePointer<Float>) -> Void
) {
    a.withUnsafeBufferPointer { a in
        b.withUnsafeBufferPointer { b in
            c.withUnsafeMutableBufferPointer { c in
                guard let a = a.baseAddress, let b = b.baseAddress, let c = c.baseAddress else { return }
                body(a, b, c)
            }
        }
    }
}
