#include <ngx_config.h>
#include <ngx_core.h>
#include <jansson.h>
#include "base/ngx_vidgen_json.h"


/* counts while pos is NULL, then writes: the same code for both */
typedef struct {
    u_char      *pos;
    size_t       len;
    ngx_pool_t  *pool;
} ngx_vidgen_json_out_t;


static json_t *ngx_vidgen_json_value(ngx_vidgen_json_type_e type,
    ngx_str_t *value);
static json_t *ngx_vidgen_json_number(ngx_str_t *value);
static ngx_int_t ngx_vidgen_json_attach(json_t *parent, ngx_str_t *token,
    json_t *value);
static json_t *ngx_vidgen_json_member(json_t *parent, ngx_str_t *token);
static ngx_int_t ngx_vidgen_json_write(ngx_vidgen_json_out_t *out,
    json_t *json);
static ngx_int_t ngx_vidgen_json_write_object(ngx_vidgen_json_out_t *out,
    json_t *json);
static ngx_int_t ngx_vidgen_json_write_array(ngx_vidgen_json_out_t *out,
    json_t *json);
static void ngx_vidgen_json_emit(ngx_vidgen_json_out_t *out,
    const char *data, size_t len);
static void ngx_vidgen_json_emit_string(ngx_vidgen_json_out_t *out,
    const char *data, size_t len);
static size_t ngx_vidgen_json_escaped(u_char *dst, u_char ch);
static void ngx_vidgen_json_cleanup(void *data);


ngx_vidgen_json_t *
ngx_vidgen_json_object(ngx_pool_t *pool)
{
    json_t              *json;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    json = json_object();
    if (json == NULL) {
        return NULL;
    }

    cln->handler = ngx_vidgen_json_cleanup;
    cln->data = json;

    return json;
}


static void
ngx_vidgen_json_cleanup(void *data)
{
    json_decref(data);
}


ngx_int_t
ngx_vidgen_json_put(ngx_vidgen_json_t *root, ngx_vidgen_pointer_t *pointer,
    ngx_vidgen_json_type_e type, ngx_str_t *value)
{
    json_t      *parent, *child;
    ngx_int_t    rc;
    ngx_str_t   *token;
    ngx_uint_t   i, n;

    token = pointer->tokens.elts;
    n = pointer->tokens.nelts;

    if (n == 0) {
        return NGX_DECLINED;
    }

    parent = root;

    for (i = 0; i < n - 1; i++) {

        child = ngx_vidgen_json_member(parent, &token[i]);

        if (child == NULL) {
            child = token[i + 1].len == 1
                    && (token[i + 1].data[0] == '0'
                        || token[i + 1].data[0] == '-')
                    ? json_array() : json_object();

            rc = ngx_vidgen_json_attach(parent, &token[i], child);
            if (rc != NGX_OK) {
                return rc;
            }
        }

        parent = child;
    }

    child = ngx_vidgen_json_value(type, value);
    if (child == NULL) {
        return NGX_DECLINED;
    }

    return ngx_vidgen_json_attach(parent, &token[n - 1], child);
}


static json_t *
ngx_vidgen_json_value(ngx_vidgen_json_type_e type, ngx_str_t *value)
{
    json_t  *json;

    switch (type) {

    case NGX_VIDGEN_JSON_STRING:
        return json_stringn((char *) value->data, value->len);

    case NGX_VIDGEN_JSON_NUMBER:
        return ngx_vidgen_json_number(value);

    case NGX_VIDGEN_JSON_INTEGER:
        json = ngx_vidgen_json_number(value);

        if (json && !json_is_integer(json)) {
            json_decref(json);
            return NULL;
        }

        return json;

    case NGX_VIDGEN_JSON_BOOLEAN:

        if (value->len == 4 && ngx_strncmp(value->data, "true", 4) == 0) {
            return json_true();
        }

        if (value->len == 5 && ngx_strncmp(value->data, "false", 5) == 0) {
            return json_false();
        }

        return NULL;

    default: /* NGX_VIDGEN_JSON_RAW */
        return json_loadb((char *) value->data, value->len,
                          JSON_DECODE_ANY|JSON_REJECT_DUPLICATES, NULL);
    }
}


static json_t *
ngx_vidgen_json_number(ngx_str_t *value)
{
    json_t  *json;

    /* no brackets here, so neither depth nor length can hurt */

    if (value->len == 0 || (value->data[0] != '-'
                            && (value->data[0] < '0' || value->data[0] > '9')))
    {
        return NULL;
    }

    json = json_loadb((char *) value->data, value->len, JSON_DECODE_ANY, NULL);

    if (json && !json_is_number(json)) {
        json_decref(json);
        return NULL;
    }

    return json;
}


static json_t *
ngx_vidgen_json_member(json_t *parent, ngx_str_t *token)
{
    ngx_int_t  index;

    if (json_is_object(parent)) {
        return json_object_get(parent, (char *) token->data);
    }

    index = ngx_vidgen_pointer_index(token);

    return index == NGX_ERROR ? NULL : json_array_get(parent, index);
}


/* takes the value over, whatever it returns */

static ngx_int_t
ngx_vidgen_json_attach(json_t *parent, ngx_str_t *token, json_t *value)
{
    int        rc;
    ngx_int_t  index;

    if (value == NULL) {
        return NGX_ERROR;
    }

    if (json_is_object(parent)) {
        rc = json_object_set_new(parent, (char *) token->data, value);
        return rc == 0 ? NGX_OK : NGX_ERROR;
    }

    if (!json_is_array(parent)) {
        json_decref(value);
        return NGX_DECLINED;
    }

    index = token->len == 1 && token->data[0] == '-'
            ? (ngx_int_t) json_array_size(parent)
            : ngx_vidgen_pointer_index(token);

    if (index == NGX_ERROR || index > (ngx_int_t) json_array_size(parent)) {
        json_decref(value);
        return NGX_DECLINED;
    }

    rc = index == (ngx_int_t) json_array_size(parent)
         ? json_array_append_new(parent, value)
         : json_array_set_new(parent, index, value);

    return rc == 0 ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_vidgen_json_dump(ngx_vidgen_json_t *json, ngx_pool_t *pool,
    ngx_str_t *text)
{
    ngx_vidgen_json_out_t  out;

    out.pos = NULL;
    out.len = 0;
    out.pool = pool;

    if (ngx_vidgen_json_write(&out, json) != NGX_OK) {
        return NGX_ERROR;
    }

    text->len = out.len;
    text->data = ngx_pnalloc(pool, out.len);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    out.pos = text->data;

    return ngx_vidgen_json_write(&out, json);
}


static ngx_int_t
ngx_vidgen_json_write(ngx_vidgen_json_out_t *out, json_t *json)
{
    ngx_str_t  text;

    switch (json_typeof(json)) {

    case JSON_OBJECT:
        return ngx_vidgen_json_write_object(out, json);

    case JSON_ARRAY:
        return ngx_vidgen_json_write_array(out, json);

    case JSON_STRING:
        ngx_vidgen_json_emit_string(out, json_string_value(json),
                                    json_string_length(json));
        return NGX_OK;

    case JSON_NULL:
        ngx_vidgen_json_emit(out, "null", 4);
        return NGX_OK;

    default: /* numbers and booleans are written as their text */

        if (ngx_vidgen_json_text(json, out->pool, &text) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_vidgen_json_emit(out, (char *) text.data, text.len);
        return NGX_OK;
    }
}


static ngx_int_t
ngx_vidgen_json_write_object(ngx_vidgen_json_out_t *out, json_t *json)
{
    json_t      *value;
    ngx_uint_t   n;
    const char  *name;

    n = 0;

    ngx_vidgen_json_emit(out, "{", 1);

    json_object_foreach(json, name, value) {

        if (n++ > 0) {
            ngx_vidgen_json_emit(out, ",", 1);
        }

        ngx_vidgen_json_emit_string(out, name, ngx_strlen(name));
        ngx_vidgen_json_emit(out, ":", 1);

        if (ngx_vidgen_json_write(out, value) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    ngx_vidgen_json_emit(out, "}", 1);

    return NGX_OK;
}


static ngx_int_t
ngx_vidgen_json_write_array(ngx_vidgen_json_out_t *out, json_t *json)
{
    size_t   i;
    json_t  *value;

    ngx_vidgen_json_emit(out, "[", 1);

    json_array_foreach(json, i, value) {

        if (i > 0) {
            ngx_vidgen_json_emit(out, ",", 1);
        }

        if (ngx_vidgen_json_write(out, value) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    ngx_vidgen_json_emit(out, "]", 1);

    return NGX_OK;
}


static void
ngx_vidgen_json_emit(ngx_vidgen_json_out_t *out, const char *data, size_t len)
{
    if (out->pos) {
        out->pos = ngx_cpymem(out->pos, data, len);
    }

    out->len += len;
}


static void
ngx_vidgen_json_emit_string(ngx_vidgen_json_out_t *out, const char *data,
    size_t len)
{
    u_char     *end;
    ngx_str_t   text;

    text.len = len;
    text.data = (u_char *) data;

    end = ngx_vidgen_json_escape(out->pos, &text);

    if (out->pos) {
        out->len += end - out->pos;
        out->pos = end;

    } else {
        out->len += (size_t) end;
    }
}


u_char *
ngx_vidgen_json_escape(u_char *dst, ngx_str_t *src)
{
    size_t   i, len;
    u_char  *last;

    if (dst == NULL) {
        len = 2;

        for (i = 0; i < src->len; i++) {
            len += ngx_vidgen_json_escaped(NULL, src->data[i]);
        }

        return (u_char *) len;
    }

    last = dst;
    *last++ = '"';

    for (i = 0; i < src->len; i++) {
        last += ngx_vidgen_json_escaped(last, src->data[i]);
    }

    *last++ = '"';

    return last;
}


/* one byte as it stands in a JSON string; returns the number of bytes */

static size_t
ngx_vidgen_json_escaped(u_char *dst, u_char ch)
{
    u_char  *p;

    static u_char  plain[] = "\"\\\b\f\n\r\t";
    static u_char  letter[] = "\"\\bfnrt";

    if (ch >= 0x20 && ch != '"' && ch != '\\') {

        if (dst) {
            *dst = ch;
        }

        return 1;
    }

    p = (ch == '\0') ? NULL : (u_char *) ngx_strchr(plain, ch);

    if (dst == NULL) {
        return p ? 2 : 6;
    }

    if (p) {
        dst[0] = '\\';
        dst[1] = letter[p - plain];
        return 2;
    }

    ngx_sprintf(dst, "\\u%04xd", ch);

    return 6;
}
