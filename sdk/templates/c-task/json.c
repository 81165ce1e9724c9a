// Reads parameters; see json.h. Other values than texts need more, for instance the library cJSON.

#include "json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// Four hexadecimal digits.
static uint32_t hex(const char *at) {
    char digits[5] = {at[0], at[1], at[2], at[3], 0};
    return (uint32_t)strtoul(digits, NULL, 16);
}

static char *utf8(char *to, uint32_t point) {
    if (point < 0x80) {
        *to++ = (char)point;
    } else if (point < 0x800) {
        *to++ = (char)(0xc0 | point >> 6);
        *to++ = (char)(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
        *to++ = (char)(0xe0 | point >> 12);
        *to++ = (char)(0x80 | (point >> 6 & 0x3f));
        *to++ = (char)(0x80 | (point & 0x3f));
    } else {
        *to++ = (char)(0xf0 | point >> 18);
        *to++ = (char)(0x80 | (point >> 12 & 0x3f));
        *to++ = (char)(0x80 | (point >> 6 & 0x3f));
        *to++ = (char)(0x80 | (point & 0x3f));
    }
    return to;
}

// The escape behind a backslash at `*at`; moves `*at` behind it.
static char *escape(char *to, const char **at) {
    static const char from[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
    char kind = *(*at)++;
    if (kind != 'u') {
        const char *found = strchr(from, kind);
        *to++ = found ? meaning[found - from] : kind;
        return to;
    }
    uint32_t point = hex(*at);
    *at += 4;
    // What does not fit into 16 bits comes as a pair.
    if (point >= 0xd800 && point < 0xdc00 && (*at)[0] == '\\' && (*at)[1] == 'u') {
        point = 0x10000 + ((point - 0xd800) << 10) + (hex(*at + 2) - 0xdc00);
        *at += 6;
    }
    return utf8(to, point);
}

// The next text at or behind `*at`, or NULL; moves `*at` behind it.
static char *next_text(const char **at) {
    const char *from = strchr(*at, '"');
    if (!from) return NULL;
    from += 1;
    // No escape is shorter than what it stands for.
    char *text = malloc(strlen(from) + 1), *to = text;
    if (!text) abort();
    while (*from && *from != '"') {
        if (*from == '\\' && from[1]) {
            from += 1;
            to = escape(to, &from);
        } else {
            *to++ = *from++;
        }
    }
    *to = 0;
    *at = *from ? from + 1 : from;
    return text;
}

const char *json_text(const char *json, size_t length, const char *name, const char *otherwise) {
    const char *at = strndup(json, length);
    if (!at) abort();
    char *key, *value;
    while ((key = next_text(&at)) && (value = next_text(&at))) {
        if (strcmp(key, name) == 0) return value;
    }
    return otherwise;
}
