#ifndef _NGX_HTTP_VIDGEN_CONF_KNOB_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_CONF_KNOB_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* Parameters of directives that are written name=value. */

typedef enum {
    NGX_HTTP_VIDGEN_NUMBER = 0,              /* ngx_uint_t */
    NGX_HTTP_VIDGEN_TIME,                    /* ngx_msec_t */
    NGX_HTTP_VIDGEN_TIME_OFF,                /* the same, or 0, or "off" */
    NGX_HTTP_VIDGEN_SECRET,                  /* ngx_str_t */
    NGX_HTTP_VIDGEN_URL                      /* ngx_str_t */
} ngx_http_vidgen_knob_kind_e;

typedef struct {
    const char                   *name;      /* with the "="; NULL: the last */
    ngx_http_vidgen_knob_kind_e   kind;
    size_t                        offset;    /* in the configuration */
    ngx_int_t                     min;       /* of a number, or of ms */
    ngx_int_t                     max;       /* 0: none, of ms 100 years */
} ngx_http_vidgen_knob_t;


/* 1: the knob begins with name, and value is what follows */
ngx_uint_t ngx_http_vidgen_conf_knob(ngx_str_t *knob, const char *name,
    ngx_str_t *value);

/*
 * Sets what the table says of that parameter.  1: *rv is for nginx, an error
 * is logged; 0: the table has no such name.
 */
ngx_uint_t ngx_http_vidgen_conf_set_knob(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_vidgen_knob_t *knobs, void *conf, char **rv);

/* Logs that a parameter is invalid; returns NGX_CONF_ERROR. */
char *ngx_http_vidgen_conf_invalid(ngx_conf_t *cf, ngx_str_t *knob);

/* What stands before the "=": the value may be a secret in a wrong place. */
ngx_str_t ngx_http_vidgen_conf_knob_name(ngx_str_t *text);


#endif /* _NGX_HTTP_VIDGEN_CONF_KNOB_H_INCLUDED_ */
