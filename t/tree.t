#!/usr/bin/perl

# The tree keeps its own rules: what includes what, who uses which library,
# the lists of the build script, form, and what the README documents.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Find qw(find);
use Test::More;

use VidgenTest::Util qw(root slurp);

my $max_columns  = 80;
my $max_function = 80;              # lines
my $max_file     = 500;

# a floor may include itself and these
my %below = (
    base    => [],
    io      => [qw(base)],
    shm     => [qw(base)],
    core    => [qw(base io shm)],
    http    => [qw(base io shm core)],
    monitor => [qw(base io shm core)],
);

# the files that may use a library, or nginx's requests
my %owner = (
    qr/<jansson\.h>/                  => qr{^src/base/ngx_vidgen_json},
    qr/<openssl\//                    => qr{^src/base/},
    qr/<libpq-fe\.h>/                 => qr{^src/io/ngx_vidgen_pg},
    qr/<curl\//                       => qr{^src/io/ngx_vidgen_fetch},
    qr/<ngx_http\.h>|\bngx_http_request_t\b/
                                      => qr{^(?:src/http/|ngx_http_vidgen)},
);

my @vendors = qw(fal runway pika replicate kling minimax heygen luma
    wavespeed gemini);

my $top = 'ngx_http_vidgen_module.c';

chdir root();

my (@all, %text);
find({ no_chdir => 1, wanted => sub {
    my $name = $_ =~ s{^\./}{}r;
    return $File::Find::prune = 1 if $name =~ m{^(?:\.git|build)$};
    push @all, $name if -f;
} }, '.');
@all = sort @all;

my @c = grep { m{^(?:src/.*\.[ch]|\Q$top\E)$} } @all;
$text{$_} = slurp($_) for grep { /\.(?:[ch]|p[lm]|t|sql|conf|lua|mjs|sh)$/
    || m{^(?:config|Makefile|\.ci/.*)$} } @all;

my %tests = (
    'the top file is there'             => \&top_file,
    'files are named after their floor' => \&names,
    'headers are guarded'               => \&guards,
    'includes point down only'          => \&floors,
    'libraries have one user each'      => \&libraries,
    'config lists what there is'        => \&config_lists,
    'columns, tabs, ends of lines'      => \&form,
    'functions and files are short'     => \&lengths,
    'no goto'                           => sub { grep_c(qr/\bgoto\b/) },
    'no vendor names in the sources'    => \&vendors,
    'directives are in the README'      => sub { documented('directives') },
    'knobs of providers are in the README'
                                        => sub { documented('knobs') },
    'variables are in the README'       => sub { documented('variables') },
    'metrics are in the README'         => sub { documented('metrics') },
);

plan tests => scalar keys %tests;

for my $name (sort keys %tests) {
    my @wrong = $tests{$name}->();
    ok(!@wrong, $name) or diag(join "\n", @wrong);
}


sub top_file { return $text{$top} ? () : "$top is missing" }


sub names {
    return grep {
        my ($folder, $file) = m{^(?:src/)?(?:(\w+)/)?([^/]+)$};
        my $prefix = !$folder || $folder eq 'http' ? 'ngx_http_vidgen_'
            : 'ngx_vidgen_';
        !defined $file || index($file, $prefix) != 0
            || $folder && !$below{$folder};
    } @c;
}


sub guards {
    return grep {
        my $guard = '_' . uc(m{([^/]+)\.h$} ? $1 : '') . '_H_INCLUDED_';
        $text{$_} !~ /\A#ifndef $guard\n#define $guard\n/
            || $text{$_} !~ m{\n#endif /\* $guard \*/\n\z};
    } grep { /\.h$/ } @c;
}


sub floors {
    my @wrong;
    for my $file (@c) {
        my ($floor) = $file =~ m{^src/(\w+)/};
        my @may = $floor ? ($floor, @{ $below{$floor} // [] }) : keys %below;

        for my $included ($text{$file} =~ /^#\s*include\s+"([^"]+)"/mg) {
            my ($to) = $included =~ m{^(\w+)/};
            push @wrong, "$file includes $included"
                unless $to && grep({ $_ eq $to } @may) && -f "src/$included";
        }
    }
    return @wrong;
}


sub libraries {
    my @wrong;
    for my $what (keys %owner) {
        push @wrong, map { "$_ uses $what" }
            grep { code($_) =~ $what && $_ !~ $owner{$what} } @c;
    }
    return @wrong;
}


sub config_lists {
    my @wrong;
    for my $list (['srcs', qr/\.c$/], ['deps', qr/\.h$/]) {
        my ($name, $suffix) = @$list;
        my ($value) = $text{config} =~ /^ngx_module_$name="(.*?)"/ms;
        my @listed = map { s{^\$ngx_addon_dir/}{}r }
            grep { /\w/ } split /[\s\\]+/, $value // '';
        my @there = sort grep { $_ =~ $suffix } @c;

        push @wrong, "$name: not sorted" if "@listed" ne "@{[sort @listed]}";
        push @wrong, map { "$name: $_" } differences(\@there, \@listed,
            'is not listed', 'is not on the disk');
    }
    return @wrong;
}


sub form {
    my @wrong;
    for my $file (sort keys %text) {
        my $line = 0;
        for (split /\n/, $text{$file}) {
            $line++;
            push @wrong, "$file:$line: too long"
                if columns($_) > $max_columns && !/^ *url +\S+$/;
            push @wrong, "$file:$line: blank at its end" if /\s$/;
            push @wrong, "$file:$line: tab"
                if /\t/ && $file ne 'Makefile';
        }
        push @wrong, "$file: no newline at its end"
            if $text{$file} !~ /\n\z/;
    }
    return @wrong;
}

sub columns {
    my ($line) = @_;
    utf8::decode($line);
    return length($line =~ s/\t/        /gr);
}


sub lengths {
    my @wrong;
    for my $file (@c) {
        my @lines = split /\n/, $text{$file};
        push @wrong, "$file: " . @lines . ' lines' if @lines > $max_file;

        my $begin;
        for my $i (0 .. $#lines) {
            $begin = $i if $lines[$i] eq '{';
            next unless defined $begin && $lines[$i] eq '}';
            my $length = $i - $begin + 1;
            push @wrong, "$file:$begin: a function of $length lines"
                if $length > $max_function;
            $begin = undef;
        }
    }
    return @wrong;
}


sub grep_c {
    my ($pattern) = @_;
    return grep { code($_) =~ $pattern } @c;
}

# a file without its comments
sub code { return $text{ $_[0] } =~ s{/\*.*?\*/}{}gsr }


sub vendors {
    my $names = join '|', @vendors;
    my @wrong;
    for my $file (@c) {
        my @found = $text{$file} =~ /\b($names)\b/gi;
        push @wrong, map { "$file: $_" } @found;
    }
    return @wrong;
}


# ---- the README, both ways -------------------------------------------------

# Sections of the README have a table; the first cell of a row begins with
# names in backquotes.
sub documented {
    my ($what) = @_;

    my $readme = slurp('README.md') // return 'README.md is missing';
    my %in_code = map { $_ => 1 } in_code($what);
    my %in_readme = map { $_ => 1 } in_readme($readme, $what);

    return "no $what found in the sources" unless %in_code;
    return "no table of $what in the README" unless %in_readme;
    return differences([sort keys %in_code], [sort keys %in_readme],
        'is not in the README', 'is in the README only');
}

sub in_readme {
    my ($readme, $what) = @_;

    my %heading = (directives => qr/directives/i, variables => qr/variables/i,
        knobs => qr/provider definition/i, metrics => qr/metrics/i);
    my @names;

    for my $section (split /^(?=#+ )/m, $readme) {
        next unless $section =~ /\A#+ [^\n]*$heading{$what}/;
        for my $cell ($section =~ /^\| *(`(?:\\\||[^|])*)\|/mg) {
            push @names, map { s/^\$//r =~ s/^(\w+).*/$1/sr }
                $cell =~ /`([^`]+)`/g;
        }
    }
    return @names;
}

# The names in the tables of the sources.
sub in_code {
    my ($what) = @_;

    my ($files, $name) = @{ {
        directives => [qr{^\Q$top\E$}, qr/\{ ngx_string\("(vidgen_\w+)"\),\n/],
        knobs      => [qr{^src/http/},
                       qr/NGX_HTTP_VIDGEN_(?:KNOB|PART|PATH|LIST)\("(\w+)"/],
        variables  => [qr{variable\.c$|/ngx_vidgen_template},
                       qr/"(vidgen_\w+)"/],
        metrics    => [qr{/ngx_vidgen_metric\.c$}, qr/"(vidgen_\w+)/],
    }->{$what} };

    return map { s/_$/_NAME/r } map { code($_) =~ /$name/g }
        grep { $_ =~ $files } @c;
}


sub differences {
    my ($these, $those, $missing, $surplus) = @_;
    my %these = map { $_ => 1 } @$these;
    my %those = map { $_ => 1 } @$those;
    return ((map { "$_ $missing" } grep { !$those{$_} } @$these),
        (map { "$_ $surplus" } grep { !$these{$_} } @$those));
}
