#include <ngx_config.h>
#include <ngx_core.h>
#include "core/ngx_vidgen_store_value.h"


ngx_str_t  ngx_vidgen_store_boolean[2] = {
    ngx_string("f"),
    ngx_string("t")
};


ngx_int_t
ngx_vidgen_store_copy(ngx_pool_t *pool, ngx_str_t *copy, ngx_str_t *text)
{
    ngx_str_null(copy);

    if (text->len == 0) {
        return NGX_OK;
    }

    copy->data = ngx_pstrdup(pool, text);
    if (copy->data == NULL) {
        return NGX_ERROR;
    }

    copy->len = text->len;

    return NGX_OK;
}


ngx_int_t
ngx_vidgen_store_interval(ngx_pool_t *pool, ngx_str_t *text, ngx_msec_t ms)
{
    text->data = ngx_pnalloc(pool, NGX_INT64_LEN + sizeof(" milliseconds"));
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    text->len = ngx_sprintf(text->data, "%M milliseconds", ms) - text->data;

    return NGX_OK;
}


int64_t
ngx_vidgen_store_integer(ngx_str_t *text)
{
    off_t  n;

    if (text->len > 1 && text->data[0] == '-') {
        n = ngx_atoof(text->data + 1, text->len - 1);
        return n == NGX_ERROR ? 0 : -n;
    }

    n = text->len ? ngx_atoof(text->data, text->len) : 0;

    return n == NGX_ERROR ? 0 : n;
}
