// Reads parameters: a JSON object whose values are all texts, as the schema in plugin.c has it.

#ifndef JSON_H
#define JSON_H

#include <stddef.h>

// The text under a name, or `otherwise` if there is none. The host has checked the JSON against the schema, so that it
// is well formed.
const char *json_text(const char *json, size_t length, const char *name, const char *otherwise);

#endif
