#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_context.h"


static void ngx_http_vidgen_ctx_cleanup(void *data);


ngx_http_vidgen_ctx_t *
ngx_http_vidgen_ctx(ngx_http_request_t *r, ngx_uint_t create)
{
    ngx_pool_cleanup_t     *cln;
    ngx_http_vidgen_ctx_t  *ctx;

    r = r->main;

    ctx = ngx_http_get_module_ctx(r, ngx_http_vidgen_module);
    if (ctx) {
        return ctx;
    }

    /* an internal redirect forgets contexts, the pool's cleanups stay */

    if (r->internal || r->filter_finalize) {
        for (cln = r->pool->cleanup; cln; cln = cln->next) {
            if (cln->handler == ngx_http_vidgen_ctx_cleanup) {
                ctx = cln->data;
                ngx_http_set_ctx(r, ctx, ngx_http_vidgen_module);
                return ctx;
            }
        }
    }

    if (!create) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_vidgen_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_vidgen_ctx_t));
    cln->handler = ngx_http_vidgen_ctx_cleanup;
    ngx_http_set_ctx(r, ctx, ngx_http_vidgen_module);

    return ctx;
}


static void
ngx_http_vidgen_ctx_cleanup(void *data)
{
    /* there to be found again */
}


void
ngx_http_vidgen_ctx_keep(ngx_http_request_t *r, ngx_str_t *kept,
    ngx_str_t *text)
{
    kept->data = ngx_pstrdup(r->pool, text);
    kept->len = kept->data ? text->len : 0;
}


ngx_int_t
ngx_http_vidgen_ctx_variable(void *data, ngx_uint_t index, ngx_str_t *value)
{
    ngx_http_request_t *r = data;

    ngx_http_variable_value_t  *vv;

    ngx_str_null(value);

    if (r == NULL) {
        return NGX_OK;
    }

    vv = ngx_http_get_flushed_variable(r, index);
    if (vv == NULL) {
        return NGX_ERROR;
    }

    if (!vv->not_found) {
        value->data = vv->data;
        value->len = vv->len;
    }

    return NGX_OK;
}
