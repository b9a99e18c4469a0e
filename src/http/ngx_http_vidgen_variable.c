#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_text.h"
#include "http/ngx_http_vidgen_context.h"
#include "http/ngx_http_vidgen_variable.h"


static ngx_int_t ngx_http_vidgen_add_variable(ngx_conf_t *cf, ngx_str_t *name,
    ngx_http_get_variable_pt get, uintptr_t data);
static ngx_http_vidgen_ctx_t *ngx_http_vidgen_variable_ctx(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_vidgen_variable_text(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vidgen_variable_flag(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vidgen_variable_attempts(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vidgen_variable_db_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_vidgen_variable_value(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static void ngx_http_vidgen_variable_set(ngx_http_variable_value_t *v,
    ngx_str_t *text);


enum {
    NGX_HTTP_VIDGEN_VERIFIED = 0,
    NGX_HTTP_VIDGEN_REPLAY
};


#define ngx_http_vidgen_ctx_offset(name)                                      \
    offsetof(ngx_http_vidgen_ctx_t, name)


/* what the access log tells of a request */
static ngx_http_variable_t  ngx_http_vidgen_variables[] = {

    { ngx_string("vidgen_provider"), NULL, ngx_http_vidgen_variable_text,
      ngx_http_vidgen_ctx_offset(provider), 0, 0 },

    { ngx_string("vidgen_job_id"), NULL, ngx_http_vidgen_variable_text,
      ngx_http_vidgen_ctx_offset(job_id), 0, 0 },

    { ngx_string("vidgen_job_status"), NULL, ngx_http_vidgen_variable_text,
      ngx_http_vidgen_ctx_offset(job_status), 0, 0 },

    { ngx_string("vidgen_outcome"), NULL, ngx_http_vidgen_variable_text,
      ngx_http_vidgen_ctx_offset(outcome), 0, 0 },

    { ngx_string("vidgen_attempts"), NULL, ngx_http_vidgen_variable_attempts,
      0, 0, 0 },

    { ngx_string("vidgen_verified"), NULL, ngx_http_vidgen_variable_flag,
      NGX_HTTP_VIDGEN_VERIFIED, 0, 0 },

    { ngx_string("vidgen_replay"), NULL, ngx_http_vidgen_variable_flag,
      NGX_HTTP_VIDGEN_REPLAY, 0, 0 },

    { ngx_string("vidgen_db_time"), NULL, ngx_http_vidgen_variable_db_time,
      0, 0, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_vidgen_add_variables(ngx_conf_t *cf)
{
    ngx_uint_t            i;
    ngx_http_variable_t  *v;

    for (v = ngx_http_vidgen_variables; v->name.len; v++) {
        if (ngx_http_vidgen_add_variable(cf, &v->name, v->get_handler, v->data)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    /* and what definitions are filled from */

    for (i = 0; i < NGX_VIDGEN_VALUES; i++) {
        if (ngx_http_vidgen_add_variable(cf, &ngx_vidgen_value_names[i],
                                         ngx_http_vidgen_variable_value, i)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_vidgen_add_variable(ngx_conf_t *cf, ngx_str_t *name,
    ngx_http_get_variable_pt get, uintptr_t data)
{
    ngx_http_variable_t  *v;

    v = ngx_http_add_variable(cf, name, NGX_HTTP_VAR_NOCACHEABLE);
    if (v == NULL) {
        return NGX_ERROR;
    }

    v->get_handler = get;
    v->data = data;

    return NGX_OK;
}


/* NULL: the request has none */
static ngx_http_vidgen_ctx_t *
ngx_http_vidgen_variable_ctx(ngx_http_request_t *r)
{
    ngx_http_vidgen_ctx_t  *ctx;

    ctx = ngx_http_vidgen_ctx(r, 0);

    if (ctx) {
        ctx->consulted = 1;
    }

    return ctx;
}


static ngx_int_t
ngx_http_vidgen_variable_text(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t              *text;
    ngx_http_vidgen_ctx_t  *ctx;

    ctx = ngx_http_vidgen_variable_ctx(r);
    text = ctx ? (ngx_str_t *) ((u_char *) ctx + data) : NULL;

    ngx_http_vidgen_variable_set(v, text);

    return NGX_OK;
}


static ngx_int_t
ngx_http_vidgen_variable_value(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_vidgen_ctx_t  *ctx;

    ctx = ngx_http_vidgen_variable_ctx(r);

    ngx_http_vidgen_variable_set(v, ctx && ctx->source
                                    ? &ctx->source->values[data] : NULL);

    return NGX_OK;
}


static ngx_int_t
ngx_http_vidgen_variable_flag(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t               text;
    ngx_uint_t              flag;
    ngx_http_vidgen_ctx_t  *ctx;

    ctx = ngx_http_vidgen_variable_ctx(r);

    if (ctx == NULL || (data == NGX_HTTP_VIDGEN_VERIFIED && !ctx->checked)) {
        ngx_http_vidgen_variable_set(v, NULL);
        return NGX_OK;
    }

    flag = data == NGX_HTTP_VIDGEN_VERIFIED ? ctx->verified : ctx->replay;

    text.data = (u_char *) (flag ? "1" : "0");
    text.len = 1;
    ngx_http_vidgen_variable_set(v, &text);

    return NGX_OK;
}


static ngx_int_t
ngx_http_vidgen_variable_attempts(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t               text;
    ngx_http_vidgen_ctx_t  *ctx;

    ctx = ngx_http_vidgen_variable_ctx(r);

    if (ctx == NULL || ctx->attempts == 0) {
        ngx_http_vidgen_variable_set(v, NULL);
        return NGX_OK;
    }

    if (ngx_vidgen_text_number(r->pool, &text, ctx->attempts) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_vidgen_variable_set(v, &text);

    return NGX_OK;
}


/* seconds with ms, like nginx's own times */
static ngx_int_t
ngx_http_vidgen_variable_db_time(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t               text;
    ngx_http_vidgen_ctx_t  *ctx;

    ctx = ngx_http_vidgen_variable_ctx(r);

    if (ctx == NULL || !ctx->db_used) {
        ngx_http_vidgen_variable_set(v, NULL);
        return NGX_OK;
    }

    text.data = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 4);
    if (text.data == NULL) {
        return NGX_ERROR;
    }

    text.len = ngx_sprintf(text.data, "%T.%03M",
                           (time_t) ctx->db_time / 1000, ctx->db_time % 1000)
               - text.data;
    ngx_http_vidgen_variable_set(v, &text);

    return NGX_OK;
}


/* NULL or empty: the variable has no value, "-" in a log */
static void
ngx_http_vidgen_variable_set(ngx_http_variable_value_t *v, ngx_str_t *text)
{
    if (text == NULL || text->len == 0) {
        v->not_found = 1;
        return;
    }

    v->len = text->len;
    v->data = text->data;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
}
