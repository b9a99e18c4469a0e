#ifndef _NGX_VIDGEN_JSON_H_INCLUDED_
#define _NGX_VIDGEN_JSON_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* The only user of jansson.  Values belong to the pool they were made in. */

typedef struct json_t  ngx_vidgen_json_t;

typedef struct {
    ngx_array_t            tokens;       /* of ngx_str_t, unescaped */
    ngx_str_t              text;         /* as written */
} ngx_vidgen_pointer_t;

typedef enum {
    NGX_VIDGEN_JSON_CLIENT = 0,          /* strict: no duplicates, depth 32 */
    NGX_VIDGEN_JSON_PROVIDER             /* lenient: depth 512, last wins */
} ngx_vidgen_json_mode_e;

typedef enum {
    NGX_VIDGEN_JSON_STRING = 0,
    NGX_VIDGEN_JSON_NUMBER,
    NGX_VIDGEN_JSON_INTEGER,
    NGX_VIDGEN_JSON_BOOLEAN,
    NGX_VIDGEN_JSON_RAW                  /* the value is JSON text itself */
} ngx_vidgen_json_type_e;


/*
 * Parses text by the rules of its origin.  Returns the root, freed with the
 * pool, or NULL with *reason set to a sentence without a final dot that may
 * be shown to the sender (NULL reason: out of memory).
 */
ngx_vidgen_json_t *ngx_vidgen_json_parse(ngx_pool_t *pool, ngx_str_t *text,
    ngx_vidgen_json_mode_e mode, const char **reason);

ngx_uint_t ngx_vidgen_json_is_object(ngx_vidgen_json_t *json);

/* 1: json is not NULL and not the JSON null */
ngx_uint_t ngx_vidgen_json_is_set(ngx_vidgen_json_t *json);

/*
 * Compiles a JSON Pointer (RFC 6901): "" or "/a/0/b~1c".
 * NGX_OK, NGX_DECLINED for a malformed one, NGX_ERROR for no memory.
 */
ngx_int_t ngx_vidgen_pointer_compile(ngx_pool_t *pool, ngx_str_t *text,
    ngx_vidgen_pointer_t *pointer);

/* A token as the index of an array; NGX_ERROR: it is none. */
ngx_int_t ngx_vidgen_pointer_index(ngx_str_t *token);

/* The value at pointer, borrowed from json; NULL: absent. */
ngx_vidgen_json_t *ngx_vidgen_json_get(ngx_vidgen_json_t *json,
    ngx_vidgen_pointer_t *pointer);

/*
 * The value as text: strings as they are, numbers as written in decimal
 * (a double that is integral without fraction or exponent), booleans as
 * "true" and "false".  NGX_DECLINED: absent (json NULL), null, an object or
 * an array; NGX_ERROR: no memory.  The text lives as long as pool.
 */
ngx_int_t ngx_vidgen_json_text(ngx_vidgen_json_t *json, ngx_pool_t *pool,
    ngx_str_t *text);

/* As ngx_vidgen_json_text() for a JSON string only; any other type declines. */
ngx_int_t ngx_vidgen_json_string(ngx_vidgen_json_t *json, ngx_pool_t *pool,
    ngx_str_t *text);

/* NGX_OK and *value for a JSON integer (1.0 and 1e2 are none), else DECLINED */
ngx_int_t ngx_vidgen_json_integer(ngx_vidgen_json_t *json, int64_t *value);

/*
 * The value as compact JSON text (keys in their order); NGX_ERROR: no memory.
 */
ngx_int_t ngx_vidgen_json_dump(ngx_vidgen_json_t *json, ngx_pool_t *pool,
    ngx_str_t *text);

/* A new empty object that ngx_vidgen_json_put() fills; NULL: no memory. */
ngx_vidgen_json_t *ngx_vidgen_json_object(ngx_pool_t *pool);

/*
 * Sets the value at pointer, creating objects (and arrays where a token is
 * "0" or "-") on the way.  NGX_OK; NGX_DECLINED: value is not of the type
 * (or not UTF-8), or pointer contradicts what is there; NGX_ERROR: no memory.
 */
ngx_int_t ngx_vidgen_json_put(ngx_vidgen_json_t *root,
    ngx_vidgen_pointer_t *pointer, ngx_vidgen_json_type_e type,
    ngx_str_t *value);

/*
 * Writes src as a JSON string with its quotes; returns the end.  With dst
 * NULL returns the number of bytes needed as a pointer difference:
 * (size_t) ngx_vidgen_json_escape(NULL, src).  src must be UTF-8.
 */
u_char *ngx_vidgen_json_escape(u_char *dst, ngx_str_t *src);


#endif /* _NGX_VIDGEN_JSON_H_INCLUDED_ */
