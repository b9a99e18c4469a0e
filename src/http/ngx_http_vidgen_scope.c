#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_context.h"
#include "http/ngx_http_vidgen_scope.h"


static void ngx_http_vidgen_scope_swap(ngx_http_request_t *r,
    ngx_http_variable_value_t *variables, ngx_http_vidgen_scope_t *scope);
static ngx_uint_t ngx_http_vidgen_scope_is_given(ngx_http_request_t *r,
    ngx_uint_t index, ngx_http_variable_value_t *fresh);


ngx_http_variable_value_t *
ngx_http_vidgen_scope_given(ngx_http_request_t *r, ngx_pool_t *pool)
{
    size_t                      size;
    ngx_uint_t                  i;
    ngx_http_variable_t        *v;
    ngx_http_variable_value_t  *given, *fresh, *value;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

    size = cmcf->variables.nelts * sizeof(ngx_http_variable_value_t);
    v = cmcf->variables.elts;
    value = r->variables;

    given = ngx_pcalloc(pool, size);
    fresh = ngx_palloc(pool, size);

    if (given == NULL || fresh == NULL) {
        return NULL;
    }

    /*
     * Those of "set", whose data is their index, come first, for others may be
     * made of them; and their handler is not to be asked, it would warn.
     */

    for (i = 0; i < cmcf->variables.nelts; i++) {
        if (value[i].valid
            && (v[i].flags & NGX_HTTP_VAR_CHANGEABLE) && v[i].data == i)
        {
            given[i] = value[i];
        }
    }

    for (i = 0; i < cmcf->variables.nelts; i++) {

        if (!value[i].valid || value[i].no_cacheable || given[i].valid) {
            continue;
        }

        ngx_memcpy(fresh, given, size);

        if (ngx_http_vidgen_scope_is_given(r, i, fresh)) {
            given[i] = value[i];
        }
    }

    return given;
}


/*
 * Whether the value is another than its handler tells, or one of the moment;
 * what is made of $vidgen_* is always to be told anew.  All that the handler
 * needs is evaluated in fresh, so that none of it escapes notice.
 */
static ngx_uint_t
ngx_http_vidgen_scope_is_given(ngx_http_request_t *r, ngx_uint_t index,
    ngx_http_variable_value_t *fresh)
{
    ngx_http_vidgen_ctx_t      *ctx;
    ngx_http_vidgen_scope_t     scope;
    ngx_http_variable_value_t  *value, *told;

    ctx = ngx_http_vidgen_ctx(r, 0);
    ctx->consulted = 0;

    ngx_http_vidgen_scope_swap(r, fresh, &scope);

    told = ngx_http_get_indexed_variable(r, index);

    ngx_http_vidgen_scope_leave(r, &scope);

    if (ctx->consulted) {
        return 0;
    }

    value = &r->variables[index];

    return told == NULL || told->not_found || told->len != value->len
           || ngx_memcmp(told->data, value->data, value->len) != 0;
}


ngx_int_t
ngx_http_vidgen_scope_enter(ngx_http_request_t *r, ngx_pool_t *pool,
    ngx_http_variable_value_t *given, ngx_http_vidgen_scope_t *scope)
{
    size_t                      size;
    ngx_http_variable_value_t  *variables;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

    size = cmcf->variables.nelts * sizeof(ngx_http_variable_value_t);

    variables = ngx_palloc(pool, size);
    if (variables == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(variables, given, size);

    ngx_http_vidgen_scope_swap(r, variables, scope);

    return NGX_OK;
}


static void
ngx_http_vidgen_scope_swap(ngx_http_request_t *r,
    ngx_http_variable_value_t *variables, ngx_http_vidgen_scope_t *scope)
{
    scope->variables = r->variables;
    r->variables = variables;

#if (NGX_PCRE)

    /* $1 of the location: a map's expression would overwrite it */

    scope->ncaptures = r->ncaptures;
    scope->captures = r->captures;
    scope->captures_data = r->captures_data;
    scope->realloc = r->realloc_captures;

    r->realloc_captures = 1;

#endif
}


void
ngx_http_vidgen_scope_leave(ngx_http_request_t *r,
    ngx_http_vidgen_scope_t *scope)
{
    r->variables = scope->variables;

#if (NGX_PCRE)

    r->ncaptures = scope->ncaptures;
    r->captures = scope->captures;
    r->captures_data = scope->captures_data;
    r->realloc_captures = scope->realloc;

#endif
}
