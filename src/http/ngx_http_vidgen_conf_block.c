#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_conf_block.h"


#define NGX_HTTP_VIDGEN_MESSAGE_LEN  512

#define NGX_HTTP_VIDGEN_BIT(value)                                           \
    ((ngx_uint_t) 1 << NGX_VIDGEN_VALUE_##value)

#define NGX_HTTP_VIDGEN_PROVIDER_VALUES                                      \
    (NGX_HTTP_VIDGEN_BIT(BASE)|NGX_HTTP_VIDGEN_BIT(API_KEY))

#define NGX_HTTP_VIDGEN_JOB_VALUES                                           \
    (NGX_HTTP_VIDGEN_PROVIDER_VALUES|NGX_HTTP_VIDGEN_BIT(PROMPT)             \
     |NGX_HTTP_VIDGEN_BIT(MODEL)|NGX_HTTP_VIDGEN_BIT(DURATION)               \
     |NGX_HTTP_VIDGEN_BIT(ASPECT_RATIO)|NGX_HTTP_VIDGEN_BIT(USER)            \
     |NGX_HTTP_VIDGEN_BIT(ATTEMPT_ID))

/* a job keeps neither its duration nor its aspect ratio */
#define NGX_HTTP_VIDGEN_POLL_VALUES                                          \
    ((NGX_HTTP_VIDGEN_JOB_VALUES|NGX_HTTP_VIDGEN_BIT(PROVIDER_JOB_ID))       \
     & ~(NGX_HTTP_VIDGEN_BIT(DURATION)|NGX_HTTP_VIDGEN_BIT(ASPECT_RATIO)))


static char *ngx_http_vidgen_conf_note(ngx_conf_t *cf,
    ngx_http_vidgen_block_t *block, ngx_vidgen_template_t *template);


/* which values a part may use, and whether nginx's variables besides */
static const struct {
    ngx_uint_t  part;
    ngx_uint_t  values;
    ngx_uint_t  variables;
    ngx_uint_t  kept;
} ngx_http_vidgen_conf_values[] = {

    { NGX_HTTP_VIDGEN_PROVIDER_CONF, NGX_HTTP_VIDGEN_JOB_VALUES, 0, 0 },

    { NGX_HTTP_VIDGEN_SUBMIT_CONF, NGX_HTTP_VIDGEN_JOB_VALUES
      |NGX_HTTP_VIDGEN_BIT(WEBHOOK_URL)
      |NGX_HTTP_VIDGEN_BIT(WEBHOOK_URL_ESCAPED), 1, 0 },

    { NGX_HTTP_VIDGEN_POLL_CONF, NGX_HTTP_VIDGEN_POLL_VALUES, 0, 1 },

    { NGX_HTTP_VIDGEN_WEBHOOK_CONF, NGX_HTTP_VIDGEN_BIT(BODY)
      |NGX_HTTP_VIDGEN_BIT(BODY_SHA256)|NGX_HTTP_VIDGEN_BIT(TIMESTAMP),
      1, 0 },

    { NGX_HTTP_VIDGEN_PROBE_CONF, NGX_HTTP_VIDGEN_PROVIDER_VALUES, 0, 0 },

    { 0, 0, 0, 0 }
};


char *
ngx_http_vidgen_conf_message(ngx_conf_t *cf, const char *fmt, ...)
{
    u_char   *p, *last;
    va_list   args;

    p = ngx_pnalloc(cf->pool, NGX_HTTP_VIDGEN_MESSAGE_LEN);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    va_start(args, fmt);
    last = ngx_vslprintf(p, p + NGX_HTTP_VIDGEN_MESSAGE_LEN - 1, fmt, args);
    va_end(args);

    *last = '\0';

    return (char *) p;
}


char *
ngx_http_vidgen_conf_error(ngx_conf_t *cf, ngx_uint_t line, const char *fmt,
    ...)
{
    u_char      *last, text[NGX_HTTP_VIDGEN_MESSAGE_LEN];
    va_list      args;
    ngx_uint_t   here;

    va_start(args, fmt);
    last = ngx_vslprintf(text, text + NGX_HTTP_VIDGEN_MESSAGE_LEN, fmt, args);
    va_end(args);

    here = cf->conf_file->line;
    cf->conf_file->line = line;

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "vidgen: %*s",
                       (size_t) (last - text), text);

    cf->conf_file->line = here;

    return NGX_CONF_ERROR;
}


void *
ngx_http_vidgen_conf_push(ngx_conf_t *cf, ngx_array_t *array, size_t size)
{
    void  *element;

    if (array->elts == NULL
        && ngx_array_init(array, cf->pool, 4, size) != NGX_OK)
    {
        return NULL;
    }

    element = ngx_array_push(array);

    if (element) {
        ngx_memzero(element, size);
    }

    return element;
}


char *
ngx_http_vidgen_conf_template(ngx_conf_t *cf, ngx_str_t *text,
    ngx_vidgen_template_mode_e mode, ngx_uint_t public,
    ngx_vidgen_template_t *template)
{
    char                     *rv;
    ngx_uint_t                i, v;
    ngx_http_vidgen_block_t  *block;

    block = ngx_http_vidgen_conf_block(cf);

    for (i = 0; ngx_http_vidgen_conf_values[i].part != block->part; i++) {
        /* every part is there */
    }

    rv = ngx_vidgen_template_compile(cf, text, mode,
                                     ngx_http_vidgen_conf_values[i].variables
                                     ? ngx_http_get_variable_index : NULL,
                                     template);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (public && (template->uses & NGX_HTTP_VIDGEN_BIT(API_KEY))) {
        return "may not use \"$vidgen_api_key\": URLs are logged, put it "
               "into a header";
    }

    for (v = 0; v < NGX_VIDGEN_VALUES; v++) {

        if (template->uses & ~ngx_http_vidgen_conf_values[i].values
            & ((ngx_uint_t) 1 << v))
        {
            return ngx_http_vidgen_conf_message(cf,
                       "may not use \"$%V\" here, where it has no value",
                       &ngx_vidgen_value_names[v]);
        }
    }

    if (ngx_vidgen_template_kept(template, 0)
        && !ngx_http_vidgen_conf_values[i].kept)
    {
        return "may use kept values in \"poll\" only";
    }

    return ngx_http_vidgen_conf_note(cf, block, template);
}


static char *
ngx_http_vidgen_conf_note(ngx_conf_t *cf, ngx_http_vidgen_block_t *block,
    ngx_vidgen_template_t *template)
{
    ngx_str_t               *name;
    ngx_uint_t               i;
    ngx_http_vidgen_kept_t  *kept;

    for (i = 0; i < NGX_VIDGEN_VALUES; i++) {
        if ((template->uses & ((ngx_uint_t) 1 << i)) && !block->used[i]) {
            block->used[i] = cf->conf_file->line;
        }
    }

    for (i = 0; (name = ngx_vidgen_template_kept(template, i)) != NULL; i++) {

        kept = ngx_http_vidgen_conf_push(cf, &block->kept,
                                         sizeof(ngx_http_vidgen_kept_t));
        if (kept == NULL) {
            return NGX_CONF_ERROR;
        }

        kept->name = *name;
        kept->line = cf->conf_file->line;
        kept->then = block->then;
    }

    if (block->part == NGX_HTTP_VIDGEN_POLL_CONF && !block->then
        && (i > 0 || (template->uses & (NGX_HTTP_VIDGEN_BIT(PROVIDER_JOB_ID)
                                        |NGX_HTTP_VIDGEN_BIT(ATTEMPT_ID)))))
    {
        block->poll_job = 1;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_vidgen_conf_pointer(ngx_conf_t *cf, ngx_str_t *text,
    ngx_vidgen_pointer_t *pointer)
{
    switch (ngx_vidgen_pointer_compile(cf->pool, text, pointer)) {

    case NGX_OK:

        if (text->len > 0) {
            return NGX_CONF_OK;
        }

        return "has an empty JSON Pointer";

    case NGX_DECLINED:
        return ngx_http_vidgen_conf_message(cf,
                   "has a malformed JSON Pointer \"%V\"", text);

    default:
        return NGX_CONF_ERROR;
    }
}


char *
ngx_http_vidgen_conf_add_pointer(ngx_conf_t *cf, ngx_array_t *pointers,
    ngx_str_t *text)
{
    ngx_vidgen_pointer_t  *pointer;

    pointer = ngx_http_vidgen_conf_push(cf, pointers,
                                        sizeof(ngx_vidgen_pointer_t));

    return pointer ? ngx_http_vidgen_conf_pointer(cf, text, pointer)
                   : NGX_CONF_ERROR;
}


char *
ngx_http_vidgen_conf_code(ngx_conf_t *cf, ngx_str_t *text, ngx_uint_t *code)
{
    ngx_int_t  n;

    if (text->len == 3 && text->data[1] == 'x' && text->data[2] == 'x') {
        n = ngx_atoi(text->data, 1);

        if (n >= 1 && n <= 5) {
            *code = n;
            return NGX_CONF_OK;
        }
    }

    n = ngx_atoi(text->data, text->len);

    if (n < 100 || n > 599) {
        return ngx_http_vidgen_conf_message(cf,
                   "has an invalid HTTP status \"%V\"", text);
    }

    *code = n;

    return NGX_CONF_OK;
}


char *
ngx_http_vidgen_conf_add_code(ngx_conf_t *cf, ngx_array_t *codes,
    ngx_str_t *text)
{
    ngx_uint_t  *code;

    code = ngx_http_vidgen_conf_push(cf, codes, sizeof(ngx_uint_t));

    return code ? ngx_http_vidgen_conf_code(cf, text, code) : NGX_CONF_ERROR;
}
