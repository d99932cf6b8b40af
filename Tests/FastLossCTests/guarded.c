#include "guarded.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_OPERANDS = 96, FILLER = 0xFF };

typedef struct operand {
    unsigned char *bytes;  // of the operand
    size_t size;
    unsigned char *pages;  // that hold it
    size_t pages_size;
    int is_output;
} operand;

static operand operands[MOST_OPERANDS];
static int count = 0;
static placement placed = ORDINARY;
static uint32_t state = 1;
static unsigned char *gathered = NULL;
static size_t gathered_capacity = 0;

void begin_operands(placement where, uint32_t seed) {
    placed = where;
    state = seed;
    count = 0;
}

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/// Memory for an operand, filled with NaN of every type.
static operand *place(size_t size, int is_output) {
    if (count == MOST_OPERANDS) abort();
    operand *const made = &operands[count++];
    const size_t page = page_size();
    made->size = size;
    made->is_output = is_output;
    // An operand of no bytes has an address, too.
    made->pages_size = size == 0 ? page : (size + page - 1) / page * page;
    if (placed == ORDINARY) {
        made->pages = (unsigned char *)malloc(made->pages_size);
        if (made->pages == NULL) abort();
    } else {
        void *const mapping =
            mmap(NULL, made->pages_size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapping == MAP_FAILED) abort();
        made->pages = (unsigned char *)mapping + page;
        if (mprotect(made->pages, made->pages_size, PROT_READ | PROT_WRITE) != 0) abort();
    }
    memset(made->pages, FILLER, made->pages_size);
    made->bytes = made->pages + (placed == AT_END ? made->pages_size - size : 0);
    return made;
}

/// The elements from the first to the last of the last row: no gap follows it.
static size_t extent(int64_t rows, int64_t columns, int64_t gap) {
    return rows == 0 || columns == 0 ? 0 : (size_t)((rows - 1) * (columns + gap) + columns);
}

static const void *protect(const operand *made) {
    if (placed != ORDINARY && mprotect(made->pages, made->pages_size, PROT_READ) != 0) abort();
    return made->bytes;
}

static uint32_t draw(void) {
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static const float *drawn_floats(int64_t rows, int64_t columns, int64_t gap, float low) {
    const operand *const made = place(extent(rows, columns, gap) * sizeof(float), 0);
    float *const values = (float *)(void *)made->bytes;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < columns; column++)
            values[row * (columns + gap) + column] = low + (1 - low) * (float)draw() / 16777216.0f;
    return (const float *)protect(made);
}

const float *input(int64_t rows, int64_t columns, int64_t gap) {
    return drawn_floats(rows, columns, gap, -1);
}

const float *input_probabilities(int64_t rows, int64_t columns, int64_t gap) {
    return drawn_floats(rows, columns, gap, 0);
}

static const float *drawn(int64_t rows, int64_t columns, int64_t gap, float low, fastloss_element_type type) {
    if (type == FASTLOSS_ELEMENT_FLOAT32) return drawn_floats(rows, columns, gap, low);
    const operand *const made = place(extent(rows, columns, gap) * sizeof(uint16_t), 0);
    uint16_t *const values = (uint16_t *)(void *)made->bytes;
    // Bits of numbers from 0.125 to 1, and their number.
    const int is_half = type == FASTLOSS_ELEMENT_FLOAT16;
    const uint32_t first = is_half ? 0x3000 : 0x3E00, range = is_half ? 0x0C00 : 0x0180;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < columns; column++) {
            const uint32_t bits = draw(), sign = low < 0 && bits % 2 == 0 ? 0x8000 : 0;
            values[row * (columns + gap) + column] = (uint16_t)(sign | (first + bits / 2 % range));
        }
    return (const float *)protect(made);
}

const float *model_input(int64_t rows, int64_t columns, int64_t gap, fastloss_element_type type) {
    return drawn(rows, columns, gap, -1, type);
}

const float *model_probabilities(int64_t rows, int64_t columns, int64_t gap, fastloss_element_type type) {
    return drawn(rows, columns, gap, 0, type);
}

const bool *input_mask(int64_t rows, int64_t columns, int64_t gap) {
    const operand *const made = place(extent(rows, columns, gap), 0);
    // A bool is 0 or 1, in the gaps too.
    memset(made->bytes, 1, made->size);
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < columns; column++)
            made->bytes[row * (columns + gap) + column] = column == 0 || draw() % 5 < 2;
    return (const bool *)protect(made);
}

const int32_t *input_labels(int64_t rows, int64_t columns, int64_t gap, int32_t limit) {
    const operand *const made = place(extent(rows, columns, gap) * sizeof(int32_t), 0);
    int32_t *const values = (int32_t *)(void *)made->bytes;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < columns; column++)
            values[row * (columns + gap) + column] = (int32_t)(draw() % (uint32_t)limit);
    return (const int32_t *)protect(made);
}

const double *input_norms(int64_t number) {
    const operand *const made = place((size_t)number * sizeof(double), 0);
    double *const values = (double *)(void *)made->bytes;
    for (int64_t i = 0; i < number; i++) values[i] = 0.5 + (double)draw() / 16777216.0;
    return (const double *)protect(made);
}

float *output(int64_t rows, int64_t columns, int64_t gap) {
    const operand *const made = place(extent(rows, columns, gap) * sizeof(float), 1);
    float *const values = (float *)(void *)made->bytes;
    for (size_t i = 0; i < made->size / sizeof(float); i++) values[i] = 7;
    return values;
}

float *model_output(int64_t rows, int64_t columns, int64_t gap, fastloss_element_type type) {
    if (type == FASTLOSS_ELEMENT_FLOAT32) return output(rows, columns, gap);
    const operand *const made = place(extent(rows, columns, gap) * sizeof(uint16_t), 1);
    uint16_t *const values = (uint16_t *)(void *)made->bytes;
    for (size_t i = 0; i < made->size / sizeof(uint16_t); i++) values[i] = 0x3E33;
    return (float *)(void *)values;
}

double *output_doubles(int64_t number) {
    return (double *)(void *)place((size_t)number * sizeof(double), 1)->bytes;
}

int64_t *output_counts(int64_t number) {
    return (int64_t *)(void *)place((size_t)number * sizeof(int64_t), 1)->bytes;
}

output_bytes all_outputs(void) {
    size_t size = 0;
    for (int i = 0; i < count; i++)
        if (operands[i].is_output) size += operands[i].size;
    if (size > gathered_capacity) {
        gathered = (unsigned char *)realloc(gathered, size);
        gathered_capacity = size;
        if (gathered == NULL) abort();
    }
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        if (!operands[i].is_output || operands[i].size == 0) continue;
        memcpy(gathered + at, operands[i].bytes, operands[i].size);
        at += operands[i].size;
    }
    output_bytes result;
    result.bytes = gathered;
    result.size = size;
    return result;
}

int operands_are_intact(void) {
    for (int i = 0; i < count; i++) {
        const operand *const one = &operands[i];
        // A write to an input has ended the process.
        if (!one->is_output) continue;
        for (const unsigned char *byte = one->pages; byte < one->pages + one->pages_size; byte++) {
            if (byte == one->bytes) byte += one->size;
            if (byte < one->pages + one->pages_size && *byte != FILLER) return 0;
        }
    }
    return 1;
}

void end_operands(void) {
    const size_t page = page_size();
    for (int i = 0; i < count; i++) {
        if (placed == ORDINARY)
            free(operands[i].pages);
        else
            munmap(operands[i].pages - page, operands[i].pages_size + 2 * page);
    }
    count = 0;
}
