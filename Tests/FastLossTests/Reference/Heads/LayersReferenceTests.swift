// The layers of the heads where their definition is not smooth: kinks, constant rows, NaN.

import FastLossReference
import Testing

@Suite struct LayersReferenceTests {
    /// At zero, PyTorch takes the derivative from below.
    @Test func kinksTakeTheDerivativeFromBelow() {
        let input: [Double] = [-2, 0, 3]
        let ones: [Double] = [1, 1, 1]
        #expect(Reference.Activation.relu.value(input: input) == [0, 0, 3])
        #expect(Reference.Activation.relu.gradient(outputGradient: ones, input: input) == [0, 0, 1])
        #expect(Reference.Activation.leakyReLU.value(input: input) == [-0.02, 0, 3])
        #expect(
            Reference.Activation.leakyReLU.gradient(outputGradient: ones, input: input) == [0.01, 0.01, 1])
        var parametric = Reference.PReLU<Double>()
        parametric.weight = [0.25]
        #expect(parametric.value(input: input) == [-0.5, 0, 3])
        let gradients = parametric.gradients(outputGradient: ones, input: input)
        #expect(gradients.input == [0.25, 0.25, 1])
        #expect(gradients.parameters.weight == [-2])
    }

    @Test(arguments: Reference.Activation.allCases)
    func notANumberGoesThrough(activation: Reference.Activation) {
        let input: [Double] = [.nan]
        #expect(activation.value(input: input)[0].isNaN)
    }

    /// exp(−x) overflows where the sigmoid is below the smallest number.
    @Test func sigmoidOfLargeNumbers() {
        let input: [Double] = [-1e4, 0, 1e4]
        #expect(Reference.Activation.sigmoid.value(input: input) == [0, 0.5, 1])
        #expect(
            Reference.Activation.sigmoid.gradient(outputGradient: [1, 1, 1], input: input) == [0, 0.25, 0])
    }

    /// ε alone divides: the output is the bias, and the gradient is finite.
    @Test func normalisationOfAConstantRow() {
        var norm = Reference.LayerNorm<Double>(width: 4)
        norm.weight = [1, 2, 3, 4]
        norm.bias = [5, 6, 7, 8]
        let input = [Double](repeating: 0.5, count: 4)
        #expect(norm.value(input: input) == norm.bias)
        let gradients = norm.gradients(outputGradient: [1, 0, 0, 0], input: input)
        #expect(gradients.parameters.weight == [0, 0, 0, 0])
        #expect(gradients.parameters.bias == [1, 0, 0, 0])
        let slope = 1 / (1e-5).squareRoot()
        expectClose(
            gradients.input, [0.75 * slope, -0.25 * slope, -0.25 * slope, -0.25 * slope], Tolerances.oracle)
    }

    /// A row of one number is always constant.
    @Test func normalisationOfOneNumber() {
        var norm = Reference.LayerNorm<Double>(width: 1)
        norm.weight = [3]
        norm.bias = [-2]
        #expect(norm.value(input: [7, -1]) == [-2, -2])
        #expect(norm.gradients(outputGradient: [1, 1], input: [7, -1]).input == [0, 0])
    }

    /// No rows give no output, and gradients of zero for the parameters.
    @Test func noRows() {
        let linear = Reference.Linear<Double>(inputWidth: 3, outputWidth: 2)
        #expect(linear.value(input: []).isEmpty)
        let gradients = linear.gradients(outputGradient: [], input: [])
        #expect(gradients.parameters == linear && gradients.input.isEmpty)
        #expect(Reference.LayerNorm<Double>(width: 3).value(input: []).isEmpty)
    }
}
