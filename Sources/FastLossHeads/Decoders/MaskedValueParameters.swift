// The sizes of a masked-value decoder, its parameters and gradients in memory: what its plans compute with.

import FastLoss

/// The sizes and options of a masked-value decoder.
package struct MaskedValueOptions {
    let style: MaskedValueDecoder.Style
    let width: Int
    let hiddenWidth: Int
    let hasExplicitZeros: Bool
    let hasBatchEmbeddings: Bool
    let nonzeroForm: BernoulliNLL.Form
    let whenEmpty: EmptySelectionRule

    package init(
        style: MaskedValueDecoder.Style, width: Int, hiddenWidth: Int, hasExplicitZeros: Bool,
        hasBatchEmbeddings: Bool, nonzeroForm: BernoulliNLL.Form, whenEmpty: EmptySelectionRule
    ) {
        self.style = style
        self.width = width
        self.hiddenWidth = hiddenWidth
        self.hasExplicitZeros = hasExplicitZeros
        self.hasBatchEmbeddings = hasBatchEmbeddings
        self.nonzeroForm = nonzeroForm
        self.whenEmpty = whenEmpty
    }
}

/// The parameters of a masked-value decoder in memory.
package struct MaskedValueParameters {
    let query: LinearParameters
    /// Of the inner products: of the predictions and, with explicit zeros, of the logits.
    let answers: InlineArray<2, LinearParameters?>
    /// Of the query styles.
    let hidden: HiddenParameters?

    package init(
        query: LinearParameters, answers: InlineArray<2, LinearParameters?>, hidden: HiddenParameters?
    ) {
        self.query = query
        self.answers = answers
        self.hidden = hidden
    }
}

/// The parameters of a query style's hidden layer in memory.
package struct HiddenParameters {
    let first: LinearParameters
    /// The slope of the activation.
    let slope: UnsafePointer<Float>
    let second: LinearParameters

    package init(first: LinearParameters, slope: UnsafePointer<Float>, second: LinearParameters) {
        self.first = first
        self.slope = slope
        self.second = second
    }
}

/// Where the gradients of a masked-value decoder's parameters go.
package struct MaskedValueParameterGradients {
    let query: LinearGradients
    let answers: InlineArray<2, LinearGradients?>
    let hidden: HiddenGradients?

    package init(
        query: LinearGradients, answers: InlineArray<2, LinearGradients?>, hidden: HiddenGradients?
    ) {
        self.query = query
        self.answers = answers
        self.hidden = hidden
    }
}

/// Where the gradients of a query style's hidden layer go; nil for those that are not wanted.
package struct HiddenGradients {
    let first: LinearGradients
    let slope: UnsafeMutablePointer<Float>?
    let second: LinearGradients

    package init(first: LinearGradients, slope: UnsafeMutablePointer<Float>?, second: LinearGradients) {
        self.first = first
        self.slope = slope
        self.second = second
    }
}

/// The memory of a masked-value decoder's gradients.
package struct MaskedValueBuffers {
    let parameters: MaskedValueParameterGradients
    let cellEmbeddings: GradientOutput?
    let genes: GradientOutput?
    let batchEmbeddings: GradientOutput?
    let update: GradientUpdate

    package init(
        parameters: MaskedValueParameterGradients, cellEmbeddings: GradientOutput?, genes: GradientOutput?,
        batchEmbeddings: GradientOutput?, update: GradientUpdate
    ) {
        self.parameters = parameters
        self.cellEmbeddings = cellEmbeddings
        self.genes = genes
        self.batchEmbeddings = batchEmbeddings
        self.update = update
    }

    /// Writes the gradients of an empty selection, for the decoder with these parameters.
    func fill(_ value: Float, like layers: MaskedValueParameters) {
        let writer = GradientWriter(update: update)
        parameters.query.fill(value, like: layers.query, writer)
        for index in layers.answers.indices {
            guard let layer = layers.answers[index] else { continue }
            parameters.answers[index]?.fill(value, like: layer, writer)
        }
        if let hidden = layers.hidden, let gradients = parameters.hidden {
            gradients.first.fill(value, like: hidden.first, writer)
            writer.fill(value, gradients.slope, count: 1)
            gradients.second.fill(value, like: hidden.second, writer)
        }
        cellEmbeddings?.fill(with: value)
        genes?.fill(with: value)
        batchEmbeddings?.fill(with: value)
    }
}
