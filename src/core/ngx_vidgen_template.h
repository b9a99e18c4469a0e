#ifndef _NGX_VIDGEN_TEMPLATE_H_INCLUDED_
#define _NGX_VIDGEN_TEMPLATE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/*
 * Texts with variables, for both worlds: in a request every nginx variable,
 * in the monitor the $vidgen_* values alone.
 */

/* the values that the module itself supplies; names in the table of the .c */
typedef enum {
    NGX_VIDGEN_VALUE_URL = 0,
    NGX_VIDGEN_VALUE_BASE,
    NGX_VIDGEN_VALUE_API_KEY,
    NGX_VIDGEN_VALUE_PROMPT,
    NGX_VIDGEN_VALUE_MODEL,
    NGX_VIDGEN_VALUE_DURATION,
    NGX_VIDGEN_VALUE_ASPECT_RATIO,
    NGX_VIDGEN_VALUE_USER,
    NGX_VIDGEN_VALUE_ATTEMPT_ID,
    NGX_VIDGEN_VALUE_WEBHOOK_URL,
    NGX_VIDGEN_VALUE_WEBHOOK_URL_ESCAPED,
    NGX_VIDGEN_VALUE_PROVIDER_JOB_ID,
    NGX_VIDGEN_VALUE_BODY,
    NGX_VIDGEN_VALUE_BODY_SHA256,        /* lower-case hex */
    NGX_VIDGEN_VALUE_TIMESTAMP,
    NGX_VIDGEN_VALUES
} ngx_vidgen_value_e;

/* "vidgen_prompt" and so on, by ngx_vidgen_value_e */
extern ngx_str_t  ngx_vidgen_value_names[NGX_VIDGEN_VALUES];

typedef struct {
    ngx_str_t              name;
    ngx_str_t              value;
} ngx_vidgen_pair_t;

/*
 * What a template is filled from.  values[i].data NULL counts as empty.
 * kept: of ngx_vidgen_pair_t, for $vidgen_kept_NAME; may be NULL.
 * variable: the value of an nginx variable by its index, or NULL in the
 * monitor; NGX_OK (len 0: empty) or NGX_ERROR.
 */
typedef struct {
    ngx_str_t              values[NGX_VIDGEN_VALUES];
    ngx_array_t           *kept;
    ngx_int_t            (*variable)(void *data, ngx_uint_t index,
                               ngx_str_t *value);
    void                  *data;
} ngx_vidgen_source_t;

typedef enum {
    NGX_VIDGEN_TEMPLATE_PLAIN = 0,
    NGX_VIDGEN_TEMPLATE_URL              /* each value that is not base, or a
                                            kept URL, is percent-escaped so that
                                            it cannot leave its path segment or
                                            argument */
} ngx_vidgen_template_mode_e;

typedef struct {
    ngx_str_t                    text;   /* as written */
    ngx_array_t                  parts;  /* private */
    ngx_uint_t                   uses;   /* bit 1 << ngx_vidgen_value_e */
    ngx_vidgen_template_mode_e   mode;
    unsigned                     constant:1;
    unsigned                     foreign:1;    /* uses nginx's variables */
    unsigned                     slash:1;      /* private: the path may end
                                                  with a slash */
} ngx_vidgen_template_t;

/*
 * Finds an nginx variable while the configuration loads: its index, or
 * NGX_ERROR (logged).  The http floor passes ngx_http_get_variable_index.
 */
typedef ngx_int_t (*ngx_vidgen_template_lookup_pt)(ngx_conf_t *cf,
    ngx_str_t *name);


/*
 * Besides the names of the table, in definitions: $vidgen_kept_NAME, and
 * $vidgen_model_path and $vidgen_provider_job_id_path, the same values with
 * slashes that stay slashes in a URL.
 *
 * Compiles "text ${name} $name"; lookup NULL: only $vidgen_* are allowed.
 * NGX_CONF_OK, or a message for "%s in ..." (NGX_CONF_ERROR: logged already).
 */
char *ngx_vidgen_template_compile(ngx_conf_t *cf, ngx_str_t *text,
    ngx_vidgen_template_mode_e mode, ngx_vidgen_template_lookup_pt lookup,
    ngx_vidgen_template_t *template);

/*
 * Fills it.  NGX_OK; NGX_DECLINED: a value cannot stand here (URL mode: "."
 * or ".." as a whole segment); NGX_ERROR: no memory.
 */
ngx_int_t ngx_vidgen_template_fill(ngx_vidgen_template_t *template,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_str_t *value);

/*
 * Appends the pieces of a plain template, taken as one text its value, to
 * pieces (of ngx_str_t) without copying them.  NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vidgen_template_pieces(ngx_vidgen_template_t *template,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_array_t *pieces);

/*
 * The name of a kept value that the template uses, by its number from 0;
 * NULL: there are no more.
 */
ngx_str_t *ngx_vidgen_template_kept(ngx_vidgen_template_t *template,
    ngx_uint_t n);

/*
 * 1: the URL, while not filled yet, begins with a kept value, so that its
 * host is what a provider answered
 */
ngx_uint_t ngx_vidgen_template_starts_kept(ngx_vidgen_template_t *template);


#endif /* _NGX_VIDGEN_TEMPLATE_H_INCLUDED_ */
