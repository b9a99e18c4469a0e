#ifndef _NGX_HTTP_VIDGEN_SCOPE_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_SCOPE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/*
 * The variables that a definition is filled with.  Nothing that one attempt
 * has evaluated may reach the next, for a map may differ by provider; but what
 * "set", auth_request_set or a named capture gave a value to has it nowhere
 * but in the request's variables.
 */

/* what the request has meanwhile put aside */
typedef struct {
    ngx_http_variable_value_t  *variables;
#if (NGX_PCRE)
    ngx_uint_t                  ncaptures;
    int                        *captures;
    u_char                     *captures_data;
    ngx_uint_t                  realloc;
#endif
} ngx_http_vidgen_scope_t;


/*
 * The request's variables of which no handler can tell the value anew, with
 * all others not evaluated.  Evaluates those that have been; $vidgen_* is to
 * be what it was then.  The values live as long as the request.  NULL: no
 * memory.
 */
ngx_http_variable_value_t *ngx_http_vidgen_scope_given(ngx_http_request_t *r,
    ngx_pool_t *pool);

/*
 * The request has a copy of given, from pool, as its variables until
 * ngx_http_vidgen_scope_leave().  NGX_OK; NGX_ERROR: no memory, not entered.
 */
ngx_int_t ngx_http_vidgen_scope_enter(ngx_http_request_t *r, ngx_pool_t *pool,
    ngx_http_variable_value_t *given, ngx_http_vidgen_scope_t *scope);

/* The request has its own variables again. */
void ngx_http_vidgen_scope_leave(ngx_http_request_t *r,
    ngx_http_vidgen_scope_t *scope);


#endif /* _NGX_HTTP_VIDGEN_SCOPE_H_INCLUDED_ */
