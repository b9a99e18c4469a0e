#ifndef _NGX_HTTP_VIDGEN_CONF_BLOCK_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_CONF_BLOCK_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "core/ngx_vidgen_provider.h"
#include "http/ngx_http_vidgen_conf_provider.h"


/*
 * A vidgen_provider block while it is read: for the files that parse its
 * knobs only.  Lines are kept so that what turns out wrong or missing at the
 * end of a block is reported where it was written or is needed.
 */

typedef struct {                         /* a use of $vidgen_kept_NAME */
    ngx_str_t               name;
    ngx_uint_t              line;
    unsigned                then:1;
} ngx_http_vidgen_kept_t;

typedef struct {
    ngx_vidgen_provider_t  *provider;
    ngx_uint_t              part;        /* context bit; PROVIDER: none */
    ngx_uint_t              line;        /* where the part begins */

    /* of the current part, NULL where it has none */
    ngx_vidgen_request_t   *request;
    ngx_vidgen_reading_t   *reading;
    ngx_array_t            *lists[NGX_HTTP_VIDGEN_LISTS];

    /* of the whole block */
    ngx_uint_t              used[NGX_VIDGEN_VALUES];     /* lines, 0: unused */
    ngx_array_t             kept;        /* of ngx_http_vidgen_kept_t */
    ngx_array_t             secrets;     /* of ngx_str_t */
    ngx_uint_t              secret_line;
    ngx_uint_t              signature_line;
    ngx_uint_t              idempotent_line;
    ngx_uint_t              webhook_line;
    ngx_uint_t              body_line;   /* first of the part */
    ngx_vidgen_json_t      *body;        /* what the part's body looks like */
    unsigned                then:1;      /* compiling the URL of then */
    unsigned                poll_job:1;  /* poll names the job */
} ngx_http_vidgen_block_t;

#define ngx_http_vidgen_conf_block(cf)                                       \
    ((ngx_http_vidgen_block_t *) (cf)->handler_conf)


/* A message for nginx's '"name" directive %s in file:line'. */
char *ngx_http_vidgen_conf_message(ngx_conf_t *cf, const char *fmt, ...);

/* Logs an [emerg] as of another line of the same file; NGX_CONF_ERROR. */
char *ngx_http_vidgen_conf_error(ngx_conf_t *cf, ngx_uint_t line,
    const char *fmt, ...);

/* A new element of an array, which is made if need be; zeroed. */
void *ngx_http_vidgen_conf_push(ngx_conf_t *cf, ngx_array_t *array,
    size_t size);

/*
 * Compiles a template by the rules of the part and notes what it uses.
 * public: it will be part of a URL, which nginx logs.
 */
char *ngx_http_vidgen_conf_template(ngx_conf_t *cf, ngx_str_t *text,
    ngx_vidgen_template_mode_e mode, ngx_uint_t public,
    ngx_vidgen_template_t *template);

/* Compiles a JSON Pointer; or adds it to an array of them. */
char *ngx_http_vidgen_conf_pointer(ngx_conf_t *cf, ngx_str_t *text,
    ngx_vidgen_pointer_t *pointer);
char *ngx_http_vidgen_conf_add_pointer(ngx_conf_t *cf, ngx_array_t *pointers,
    ngx_str_t *text);

/* A status code or its class, as 404 or 4xx; or adds it to an array. */
char *ngx_http_vidgen_conf_code(ngx_conf_t *cf, ngx_str_t *text,
    ngx_uint_t *code);
char *ngx_http_vidgen_conf_add_code(ngx_conf_t *cf, ngx_array_t *codes,
    ngx_str_t *text);

/* Checks at the end of a part and of the block; logged. */
char *ngx_http_vidgen_conf_finish_part(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block);
char *ngx_http_vidgen_conf_finish_provider(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block);

/* Completes the scheme of a webhook part and makes its keys. */
char *ngx_http_vidgen_conf_finish_signature(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block);


#endif /* _NGX_HTTP_VIDGEN_CONF_BLOCK_H_INCLUDED_ */
