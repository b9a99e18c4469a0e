#include <ngx_config.h>
#include <ngx_core.h>
#include <jansson.h>
#include "base/ngx_vidgen_json.h"


static ngx_int_t ngx_vidgen_pointer_token(ngx_pool_t *pool, u_char *p,
    size_t len, ngx_str_t *token);


ngx_int_t
ngx_vidgen_pointer_compile(ngx_pool_t *pool, ngx_str_t *text,
    ngx_vidgen_pointer_t *pointer)
{
    u_char     *p, *start, *last;
    ngx_int_t   rc;
    ngx_str_t  *token;

    pointer->text = *text;

    if (ngx_array_init(&pointer->tokens, pool, 2, sizeof(ngx_str_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    p = text->data;
    last = text->data + text->len;

    while (p < last) {

        if (*p++ != '/') {
            return NGX_DECLINED;
        }

        start = p;

        while (p < last && *p != '/') {
            p++;
        }

        token = ngx_array_push(&pointer->tokens);
        if (token == NULL) {
            return NGX_ERROR;
        }

        rc = ngx_vidgen_pointer_token(pool, start, p - start, token);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


/* tokens end with a NUL, as jansson wants names */

static ngx_int_t
ngx_vidgen_pointer_token(ngx_pool_t *pool, u_char *p, size_t len,
    ngx_str_t *token)
{
    u_char  *dst, *last;

    dst = ngx_pnalloc(pool, len + 1);
    if (dst == NULL) {
        return NGX_ERROR;
    }

    token->data = dst;
    last = p + len;

    while (p < last) {

        if (*p != '~') {
            *dst++ = *p++;
            continue;
        }

        if (last - p < 2 || (p[1] != '0' && p[1] != '1')) {
            return NGX_DECLINED;
        }

        *dst++ = (p[1] == '0') ? '~' : '/';
        p += 2;
    }

    *dst = '\0';
    token->len = dst - token->data;

    return NGX_OK;
}


ngx_vidgen_json_t *
ngx_vidgen_json_get(ngx_vidgen_json_t *json, ngx_vidgen_pointer_t *pointer)
{
    ngx_int_t    index;
    ngx_str_t   *token;
    ngx_uint_t   i;

    token = pointer->tokens.elts;

    for (i = 0; json != NULL && i < pointer->tokens.nelts; i++) {

        if (json_is_object(json)) {
            json = json_object_get(json, (char *) token[i].data);
            continue;
        }

        index = ngx_vidgen_pointer_index(&token[i]);

        if (index == NGX_ERROR) {
            return NULL;
        }

        json = json_array_get(json, index);      /* NULL unless an array */
    }

    return json;
}


ngx_int_t
ngx_vidgen_pointer_index(ngx_str_t *token)
{
    if (token->len > 1 && token->data[0] == '0') {
        return NGX_ERROR;
    }

    return ngx_atoi(token->data, token->len);
}
