// Reads JSON as far as the goldens use it: objects, arrays, strings without escapes, numbers.

#ifndef FASTLOSS_TESTS_JSON_H
#define FASTLOSS_TESTS_JSON_H

#include <stddef.h>

typedef enum { JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } json_kind;

typedef struct json {
    json_kind kind;
    double number;  // of a number, and of the strings "NaN", "Infinity" and "-Infinity"
    char *text;     // of a string
    size_t count;   // members of an array or object
    struct json *members;
    char **names;  // of an object's members
} json;

/// The value in a file. Ends the program with a message if the file has none.
json *json_read(const char *path);

/// A member of an object, or NULL.
const json *json_member(const json *object, const char *name);

void json_free(json *value);

#endif
