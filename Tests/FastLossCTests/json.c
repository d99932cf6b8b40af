#include "json.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *file_name;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", file_name, what);
    exit(2);
}

static void *grow(void *memory, size_t size) {
    void *larger = realloc(memory, size);
    if (larger == NULL) fail("out of memory");
    return larger;
}

static const char *skip_space(const char *at) {
    while (isspace((unsigned char)*at)) at++;
    return at;
}

static const char *read_string(const char *at, char **text) {
    if (*at != '"') fail("a string was expected");
    const char *end = strchr(at + 1, '"');
    if (end == NULL) fail("a string has no end");
    size_t length = (size_t)(end - at - 1);
    if (memchr(at + 1, '\\', length) != NULL) fail("escapes are not read here");
    *text = (char *)grow(NULL, length + 1);
    memcpy(*text, at + 1, length);
    (*text)[length] = 0;
    return end + 1;
}

static const char *read_value(const char *at, json *value);

static const char *read_members(const char *at, json *value, char close) {
    size_t capacity = 0;
    at = skip_space(at + 1);
    while (*at != close) {
        if (value->count == capacity) {
            capacity = capacity == 0 ? 8 : 2 * capacity;
            value->members = (json *)grow(value->members, capacity * sizeof(json));
            if (value->kind == JSON_OBJECT) {
                value->names = (char **)grow(value->names, capacity * sizeof(char *));
            }
        }
        if (value->kind == JSON_OBJECT) {
            at = skip_space(read_string(at, &value->names[value->count]));
            if (*at != ':') fail("a colon was expected");
            at = skip_space(at + 1);
        }
        at = skip_space(read_value(at, &value->members[value->count]));
        value->count++;
        if (*at == ',')
            at = skip_space(at + 1);
        else if (*at != close)
            fail("a comma or the end was expected");
    }
    return at + 1;
}

static const char *read_value(const char *at, json *value) {
    memset(value, 0, sizeof *value);
    if (*at == '{' || *at == '[') {
        value->kind = *at == '{' ? JSON_OBJECT : JSON_ARRAY;
        return read_members(at, value, *at == '{' ? '}' : ']');
    }
    if (*at == '"') {
        value->kind = JSON_STRING;
        at = read_string(at, &value->text);
        if (strcmp(value->text, "NaN") == 0) value->number = (double)NAN;
        if (strcmp(value->text, "Infinity") == 0) value->number = (double)INFINITY;
        if (strcmp(value->text, "-Infinity") == 0) value->number = -(double)INFINITY;
        return at;
    }
    char *end;
    value->kind = JSON_NUMBER;
    value->number = strtod(at, &end);
    if (end == at) fail("a value was expected");
    return end;
}

json *json_read(const char *path) {
    file_name = path;
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail("cannot be opened");
    char *text = NULL;
    size_t size = 0;
    for (;;) {
        text = (char *)grow(text, size + 65537);
        size_t count = fread(text + size, 1, 65536, file);
        size += count;
        if (count == 0) break;
    }
    fclose(file);
    text[size] = 0;
    json *value = (json *)grow(NULL, sizeof(json));
    const char *end = skip_space(read_value(skip_space(text), value));
    if (*end != 0) fail("something follows the value");
    free(text);
    return value;
}

const json *json_member(const json *object, const char *name) {
    for (size_t i = 0; i < object->count; i++) {
        if (strcmp(object->names[i], name) == 0) return &object->members[i];
    }
    return NULL;
}

static void free_parts(json *value) {
    for (size_t i = 0; i < value->count; i++) {
        free_parts(&value->members[i]);
        if (value->kind == JSON_OBJECT) free(value->names[i]);
    }
    free(value->members);
    free(value->names);
    free(value->text);
}

void json_free(json *value) {
    free_parts(value);
    free(value);
}
