#!/usr/bin/perl

# The table of models: the price, the provider to be preferred, the providers
# that serve a model, the row for all others; and what a model is called at
# each provider.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 34;

use VidgenTest::Books qw(balance customer everything ledger wrong_books);
use VidgenTest::Http qw(post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $standin = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars   => { DB => $pg->edge_conninfo, BASE => $standin->url },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    map "$vidgen_provider $vidgen_model" $model {
        "a plain"  a-calls-it;
        "b plain"  b-calls-it;
        "c plain"  "";
        "~^. no-"  "";
        default    $vidgen_model;
    }

    vidgen_database "%%DB%%";
    vidgen_monitor  off;

    vidgen_provider a {
        base %%BASE%%;
        submit {
            url     $vidgen_base/a/$model;
            header  X-Model $model;
            body    /model $model;
            job_id  /request_id;
        }
    }
    vidgen_provider b {
        base %%BASE%%;
        submit {
            url     $vidgen_base/b/$model;
            header  X-Model $model;
            body    /model $model;
            job_id  /request_id;
        }
    }
    vidgen_provider c {
        base %%BASE%%;
        submit {
            url     $vidgen_base/c/fixed;
            body    /model $model when_set;
            job_id  /request_id;
        }
    }

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_retry                  attempts=1;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /all { vidgen_generate; }
        location = /ab  { vidgen_generate a b; }
    }
}
EOT

$pg->query(<<'SQL');
INSERT INTO models (id, provider, credits_per_generation, providers) VALUES
    ('m-dear',   NULL, 5, NULL),
    ('m-free',   NULL, 0, NULL),
    ('m-b',      'b',  1, NULL),
    ('m-b-only', NULL, 1, '{b}'),
    ('m-cb',     'c',  1, '{b}'),
    ('m-c-only', 'c',  1, '{c}'),
    ('m-none',   NULL, 1, '{}'),
    ('m-gone',   'x',  1, '{x}');
SQL

my $user = customer($pg, 100);
my ($answer, $job);

# Who is asked, in order.
sub asked {
    my ($model, %more) = @_;

    my $uri = delete $more{uri} // '/all';
    $standin->forget_requests;
    $answer = post($nginx->url($uri), { user_id => $user, model_id => $model,
        prompt => 'p', %more });
    $job = $answer->{json}{job_id};
    return join ' ', map { $_->{uri} =~ m{^/(.)} } @{ $standin->requests };
}

sub fails { $standin->next(status => 503) for 1 .. $_[0] // 1 }


# prices

is(asked('anything'), 'a', 'a model that is not listed');
is(ledger($pg, $job), 'hold 1', '... costs what "*" does');
asked('m-dear');
is(ledger($pg, $job) . ' ' . balance($pg, $user), 'hold 5 94',
    'one with its price');
is($pg->value("SELECT credits_used FROM video_jobs WHERE id = '$job'"), 5,
    '... which the job has too');
fails(3);
asked('m-dear');
is(ledger($pg, $job) . ' ' . balance($pg, $user), 'hold 5, refund 5 94',
    'the same comes back');
asked('m-free');
is(ledger($pg, $job), undef, 'one for nothing');
fails(3);
asked('m-free');
is(ledger($pg, $job), undef, '... that fails');

my $poor = customer($pg, 4);
my $before = everything($pg);
is(asked('m-dear', user_id => $poor) . " $answer->{json}{code}",
    ' insufficient_credits', 'too dear');
is(everything($pg), $before, '... nothing is written');
asked('m-free', user_id => customer($pg, 0));
is($answer->{status}, 200, 'without credits: what costs nothing');

# who serves it

$nginx->restart;        # all are healthy again, for no monitor remembers
is(asked('m-b'), 'b', "the model's own provider first");
fails(2);
is(asked('m-b'), 'b a c', '... then the others');
is(asked('m-b', provider => 'c'), 'c', '... but the preferred one before it');

$nginx->restart;
is(asked('m-b-only'), 'b', 'the only one that serves it');
fails();
is(asked('m-b-only') . " $answer->{status}", 'b 502', '... no other');
is(asked('m-b-only', provider => 'a') . " $answer->{json}{code}",
    ' wrong_provider', '... even if it is asked for');
is(asked('m-cb'), 'c', 'its own one serves it too');
fails(2);
is(asked('m-cb') . " $answer->{status}", 'c b 502', '... and those listed');

$before = everything($pg);
for my $case (['m-none', '/all'], ['m-gone', '/all'], ['m-c-only', '/ab']) {
    is(asked($case->[0], uri => $case->[1])
        . " $answer->{status} $answer->{json}{code}", ' 503 no_provider',
        "nobody here serves it: $case->[0]");
}
is(everything($pg), $before, '... nothing is written');

# what it is called

$nginx->restart;
fails(2);
asked('plain');
my @got = @{ $standin->requests };
is_deeply([map { $_->{uri} } @got], ['/a/a-calls-it', '/b/b-calls-it',
    '/c/fixed'], 'in the URL, anew for each attempt');
is_deeply([map { $_->{headers}{'x-model'} } @got], ['a-calls-it',
    'b-calls-it', undef], 'in a header');
is_deeply([map { $_->{body} } @got], ['{"model":"a-calls-it"}',
    '{"model":"b-calls-it"}', '{}'], 'in the body');
is(asked('no-model') . " $answer->{status}", 'c 200',
    'where one has no name for it, it is not asked');
is(asked('m-b', provider => 'a') . $standin->requests->[0]{body},
    'a{"model":"m-b"}', 'as it is');
is($pg->value("SELECT model_id FROM video_jobs WHERE id = '$job'"), 'm-b',
    "the job has the client's name for it");

# what nobody knows

$pg->query("DELETE FROM models WHERE id = '*'");
$before = everything($pg);
is(asked('anything') . " $answer->{status} $answer->{json}{code}",
    ' 400 unknown_model', 'without "*": a model that is not listed');
is(asked('*') . " $answer->{status}", ' 400', '... "*" is no model then');
is(everything($pg), $before, '... nothing is written');
is(asked('m-dear'), 'a', 'a model that is');

is_deeply([wrong_books($pg)], [], 'the books are right');
is($pg->deadlocks, 0, 'no deadlock');
