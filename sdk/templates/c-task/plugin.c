// Counts the lines of the files that a step works on.
//
// Nothing is freed here: every call has an instance, and so a memory, of its own. What is returned to the host must come
// from malloc, because the generated code frees it.

#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "task_plugin.h"

typedef task_plugin_string_t text_t;
typedef cooperage_plugin_types_error_t fault_t;
typedef cooperage_plugin_trees_borrow_tree_t tree_t;

// Bytes per call of the host: large enough that the call itself does not count.
#define CHUNK (256 * 1024)

// What `with:` of the step takes. The host checks it before the plugin runs, and fills in the defaults.
static const char *const PARAMETERS =
    "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
    "\"directory\":{\"type\":\"string\",\"default\":\"/\",\"description\":\"Directory of the input to count in.\"},"
    "\"suffix\":{\"type\":\"string\",\"default\":\"\","
    "\"description\":\"Only files whose name ends so; all files by default.\"}}}";

// A text for the time of a call of the host.
static text_t lent(const char *text) {
    return (text_t){(uint8_t *)text, strlen(text)};
}

// A text made as by printf, for the host to keep.
__attribute__((format(printf, 1, 2))) static text_t made(const char *format, ...) {
    char *text;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0) abort();
    return (text_t){(uint8_t *)text, (size_t)length};
}

// An error for the user; gives false, as a function that fails does.
static bool fail(fault_t *fault, uint8_t kind, text_t message, const char *hint) {
    *fault = (fault_t){.kind = kind, .message = message};
    if (hint) {
        fault->hint.is_some = true;
        fault->hint.val = made("%s", hint);
    }
    return false;
}

void exports_cooperage_plugin_plugin_describe(exports_cooperage_plugin_plugin_description_t *description) {
    memset(description, 0, sizeof *description);
    description->name = made("my-plugin");
    description->version = made("0.1.0");
    description->summary = made("Counts the lines of files");

    description->annotations.len = 1;
    description->annotations.ptr = calloc(1, sizeof *description->annotations.ptr);
    description->annotations.ptr[0].f0 = made("org.opencontainers.image.licenses");
    description->annotations.ptr[0].f1 = made("Apache-2.0");

    description->parameters.len = 1;
    description->parameters.ptr = calloc(1, sizeof *description->parameters.ptr);
    description->parameters.ptr[0].f0 = made("task");
    description->parameters.ptr[0].f1 = made("%s", PARAMETERS);

    description->capabilities.len = 1;
    description->capabilities.ptr = calloc(1, sizeof *description->capabilities.ptr);
    description->capabilities.ptr[0].class_ = made("state");
    description->capabilities.ptr[0].request = made("true");
    description->capabilities.ptr[0].reason = made("to tell by how many lines the input has grown since the last run");
}

static bool ends_so(text_t path, const char *suffix) {
    size_t length = strlen(suffix);
    return length <= path.len && memcmp(path.ptr + path.len - length, suffix, length) == 0;
}

static bool count(tree_t input, text_t path, uint64_t *lines, fault_t *fault) {
    cooperage_plugin_content_own_reader_t reader;
    if (!cooperage_plugin_trees_method_tree_open(input, &path, &reader, fault)) return false;
    for (*lines = 0;;) {
        task_plugin_list_u8_t chunk;
        cooperage_plugin_content_borrow_reader_t borrowed = cooperage_plugin_content_borrow_reader(reader);
        if (!cooperage_plugin_content_method_reader_read(borrowed, CHUNK, &chunk, fault)) return false;
        if (chunk.len == 0) break;
        for (size_t i = 0; i < chunk.len; i++) *lines += chunk.ptr[i] == '\n';
        // The one exception: a large file would fill the memory.
        task_plugin_list_u8_free(&chunk);
    }
    cooperage_plugin_content_reader_drop_own(reader);
    return true;
}

// By how much the number under a key has grown. What is kept may be lost at any time: then it has not grown.
static bool grown(text_t key, uint64_t lines, int64_t *growth, fault_t *fault) {
    task_plugin_option_list_u8_t kept;
    if (!cooperage_plugin_state_get(&key, &kept, fault)) return false;
    text_t number = made("%llu", (unsigned long long)lines);
    task_plugin_list_u8_t value = {number.ptr, number.len};
    if (!cooperage_plugin_state_set(&key, &value, NULL, fault)) return false;
    uint64_t before = lines;
    if (kept.is_some) before = strtoull(strndup((char *)kept.val.ptr, kept.val.len), NULL, 10);
    *growth = (int64_t)(lines - before);
    return true;
}

// Counts the files that `walk` found and that end so, into a list and two sums.
static bool count_all(tree_t input, cooperage_plugin_trees_list_tuple2_file_info_option_digest_t found,
                      const char *suffix, FILE *list, uint64_t *files, uint64_t *lines, fault_t *fault) {
    text_t name = lent("count");
    cooperage_plugin_events_own_step_t step = cooperage_plugin_events_constructor_step(&name);
    for (size_t i = 0; i < found.len; i++) {
        cooperage_plugin_trees_file_info_t file = found.ptr[i].f0;
        if (file.kind != COOPERAGE_PLUGIN_TREES_FILE_KIND_REGULAR || !ends_so(file.path, suffix)) continue;
        if (cooperage_plugin_events_cancelled())
            return fail(fault, COOPERAGE_PLUGIN_TYPES_ERROR_KIND_CANCELLED, made("the call was cancelled"), NULL);
        uint64_t here;
        if (!count(input, file.path, &here, fault)) return false;
        fprintf(list, "%llu %.*s\n", (unsigned long long)here, (int)file.path.len, (char *)file.path.ptr);
        *lines += here;
        *files += 1;
        cooperage_plugin_events_borrow_step_t borrowed = cooperage_plugin_events_borrow_step(step);
        cooperage_plugin_events_method_step_progress(borrowed, *files, NULL, COOPERAGE_PLUGIN_EVENTS_UNIT_ITEMS);
    }
    cooperage_plugin_events_step_drop_own(step);
    return true;
}

bool exports_cooperage_plugin_task_run(exports_cooperage_plugin_task_request_t *request,
                                       exports_cooperage_plugin_task_outputs_t *outputs, fault_t *fault) {
    const char *json = (const char *)request->parameters.ptr;
    const char *directory = json_text(json, request->parameters.len, "directory", "/");
    const char *suffix = json_text(json, request->parameters.len, "suffix", "");

    // The empty name is the step's `in`.
    size_t in = 0;
    while (in < request->inputs.len && request->inputs.ptr[in].f0.len > 0) in++;
    if (in == request->inputs.len)
        return fail(fault, COOPERAGE_PLUGIN_TYPES_ERROR_KIND_INVALID_INPUT, made("the step has no input"),
                    "name the step it works on with `in:`");
    tree_t input = cooperage_plugin_trees_borrow_tree(request->inputs.ptr[in].f1);

    cooperage_plugin_trees_list_tuple2_file_info_option_digest_t found;
    text_t path = lent(directory);
    if (!cooperage_plugin_trees_method_tree_walk(input, &path, &found, fault)) {
        // The host says what is wrong; what to do about it is known here.
        if (!fault->hint.is_some) {
            fault->hint.is_some = true;
            fault->hint.val = made("name a directory of the step's input in `directory`");
        }
        return false;
    }

    char *text;
    size_t length;
    FILE *list = open_memstream(&text, &length);
    uint64_t files = 0, lines = 0;
    if (!count_all(input, found, suffix, list, &files, &lines, fault)) return false;
    fclose(list);
    if (files == 0)
        return fail(fault, COOPERAGE_PLUGIN_TYPES_ERROR_KIND_NOT_FOUND,
                    made("no file below %s has a name that ends in \"%s\"", directory, suffix),
                    "mend `directory` or `suffix`");
    text_t told = made("%llu lines in %llu files", (unsigned long long)lines, (unsigned long long)files);
    cooperage_plugin_events_log(COOPERAGE_PLUGIN_EVENTS_LEVEL_INFO, &told);
    int64_t growth;
    if (!grown(made("%s %s", directory, suffix), lines, &growth, fault)) return false;

    memset(outputs, 0, sizeof *outputs);
    outputs->values.len = 3;
    outputs->values.ptr = calloc(3, sizeof *outputs->values.ptr);
    outputs->values.ptr[0].f0 = made("files");
    outputs->values.ptr[0].f1 = made("%llu", (unsigned long long)files);
    outputs->values.ptr[1].f0 = made("lines");
    outputs->values.ptr[1].f1 = made("%llu", (unsigned long long)lines);
    outputs->values.ptr[2].f0 = made("growth");
    outputs->values.ptr[2].f1 = made("%lld", (long long)growth);

    cooperage_plugin_trees_own_tree_t empty = cooperage_plugin_trees_static_tree_scratch();
    text_t name = lent("/lines.txt");
    task_plugin_list_u8_t bytes = {(uint8_t *)text, length};
    // `name` is shown while it runs, `created_by` in the history of an image; no `location`, the user's line.
    cooperage_plugin_trees_origin_t origin = {.name = lent("write lines.txt"), .created_by = lent("write lines.txt")};
    outputs->tree.is_some = true;
    outputs->tree.val = cooperage_plugin_trees_method_tree_write_file(cooperage_plugin_trees_borrow_tree(empty), &name,
                                                                      &bytes, 0644, NULL, &origin);
    return true;
}
